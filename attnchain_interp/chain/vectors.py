"""Distributions and masks over the tokens of a chain, as users pass them: checked, and broadcast to the chain."""

from __future__ import annotations

from typing import SupportsIndex

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain
from attnchain_interp.checks import check_position, check_tensor
from attnchain_interp.errors import AttentionError


def teleport(chain: Chain, personalization: Tensor | None) -> Tensor:
    """Returns the checked jump distribution (…, token): `personalization`, or uniform over the states."""
    if personalization is None:
        return chain.uniform
    return distribution(chain, personalization, "personalization", states_only=True)


def distribution(chain: Chain, vector: Tensor, name: str, states_only: bool = False) -> Tensor:
    """Returns the checked distribution `vector`, divided by its sum, broadcast to (…, token), in the type of the chain.

    Raises:
        AttentionError: another length, NaN, negative, a sum other than one, or mass outside the states (`states_only`).
    """
    check_tensor(name, vector, "(…, token)")
    shape = chain.states.shape
    if vector.ndim == 0 or vector.shape[-1] != shape[-1]:
        raise AttentionError(
            f"{name} has shape {tuple(vector.shape)}; the chain has {shape[-1]} tokens: {tuple(shape)}.",
            "Pass one probability for every token.",
        )
    try:
        vector = vector.to(chain.device, chain.dtype).broadcast_to(shape)
    except RuntimeError:
        raise AttentionError(
            f"{name} has shape {tuple(vector.shape)}; it must broadcast to {tuple(shape)}.",
            "Pass one distribution for every chain of the batch, or one for all.",
        ) from None
    total = vector.sum(-1)
    if not bool(((total - 1).abs() <= 1e-3).all()) or bool((vector < 0).any()):
        worst = total.detach().flatten()[(total - 1).abs().nan_to_num(torch.inf).argmax()]
        raise AttentionError(
            f"{name} is not a distribution: it sums to {float(worst):.4g} and its least entry is {float(vector.min()):.4g}.",
            "Pass non-negative numbers that sum to one (v / v.sum(-1, keepdim=True)).",
        )
    if states_only and bool((vector[~chain.states] > 0).any()):
        raise AttentionError(f"{name} has mass on tokens that are not states of the chain.", "Set it to zero there.")
    return vector / total[..., None]


def token_mask(chain: Chain, mask: Tensor, name: str) -> Tensor:
    """Returns the checked mask, bool, broadcast to (…, token).

    Raises:
        AttentionError: another type or length.
    """
    check_tensor(name, mask, "(…, token)")
    shape = tuple(chain.states.shape)
    fits = mask.ndim <= len(shape) and all(a in (1, b) for a, b in zip(mask.shape[::-1], shape[::-1], strict=False))
    if mask.dtype != torch.bool or not fits:
        raise AttentionError(
            f"{name} is {mask.dtype} of shape {tuple(mask.shape)}; it must be bool and broadcast to {shape}.",
            f"Pass a bool for every token, for example {name} > 0.",
        )
    return mask.to(chain.device).broadcast_to(shape)


def one_hot(chain: Chain, token: SupportsIndex) -> Tensor:
    """Returns the distribution (token,) with all mass on one token."""
    v = torch.zeros(len(chain), dtype=chain.dtype, device=chain.device)
    v[check_position("start token", token, len(chain))] = 1
    return v
