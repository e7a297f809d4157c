"""The weight of each head when one chain is made of many: equal, by |λ₂|, chosen by hand, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp.chain import Chain, second_eigenvalue
from attnchain_interp.checks import check_one_of, check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Operator
from attnchain_interp.store.layer_selection import LayerSelection
from attnchain_interp.store.layers import Layers, check_store
from attnchain_interp.store.sinks import states_of
from attnchain_interp.store.tokens import TokenSelection

Heads = str | Sequence[int] | Callable[[Tensor], Tensor]
NAMED_WEIGHTS: Final = ("mean", "lambda2", "inverse-lambda2")


def head_weights(
    store: Layers, heads: Heads = "lambda2", *, layers: LayerSelection = "all", tokens: TokenSelection = None
) -> Tensor:
    """Returns the weight of every head in its layer (batch, layer, head); sums to one over heads.

    Args:
        store: an `AttentionStore`.
        heads: how the weights are found.

            - "mean": equal weights, the control.
            - "lambda2": |λ₂| of each head's chain, normalised. Slowly mixing (metastable) heads count more.
            - "inverse-lambda2": 1 − |λ₂|, normalised. Fast mixing heads count more.
            - a list of heads: equal weights on these heads, zero on the others.
            - a function: takes the transition matrices (batch, head, token, token) and returns non-negative weights
              (batch, head), which are normalised here. Factored layers build their maps for it.
        layers: see `AttentionStore.select`.
        tokens: the states of the chains: see `states_of`. None means the patches of an image.

    Heads whose weights are all zero (every |λ₂| is 0; every |λ₂| is 1 for the inverse) get equal weights.

    Raises:
        AttentionError: an unknown name, a head that does not exist, weights of a wrong shape or sign, or layers with
            different numbers of heads.

    Source: Erel et al. 2025 (λ₂-weighted head averaging).
    """
    check_store(store)
    states = states_of(store, tokens, layers)
    rows = [weights_in_layer(layer.conditioned(states), layer.over_heads(states), heads) for layer in store.select(layers)]
    if len({row.shape for row in rows}) > 1:
        raise AttentionError(
            f"the layers have {[row.shape[1] for row in rows]} heads, so their weights cannot be stacked.",
            "Ask for one layer at a time: layers=0, layers=1, …",
        )
    return torch.stack(rows, 1)


def check_heads(heads: Any) -> None:
    """Refuses everything but a name, a list of heads, and a function."""
    if not (isinstance(heads, str | Sequence) or callable(heads)):
        raise AttentionError(
            f"heads is of type {type(heads).__name__}; it is a name, a list of heads or a function.",
            f"Pass heads=[{heads}] for one head." if isinstance(heads, int) else 'Pass heads="mean".',
        )


def weights_in_layer(conditioned: Operator, states: Tensor, heads: Heads) -> Tensor:
    """Returns `head_weights` (batch, head) of one layer whose maps are `conditioned` on `states` (batch, head, token)."""
    batch, count = conditioned.shape[:2]
    if callable(heads):
        weights = heads(conditioned.scaled(columns=states).dense())
        if not isinstance(weights, Tensor):
            raise AttentionError(
                f"the heads function returned {type(weights).__name__}.",
                f"Return a tensor of weights of shape (batch, head) = ({batch}, {count}).",
            )
        if weights.shape != (batch, count) or bool((weights < 0).any()) or not bool(weights.isfinite().all()):
            raise AttentionError(
                f"the heads function returned weights of shape {tuple(weights.shape)}, the least {float(weights.min()):.3g}.",
                f"Return finite, non-negative weights of shape (batch, head) = ({batch}, {count}).",
            )
    elif not isinstance(heads, str):
        check_heads(heads)
        if not len(heads):
            raise AttentionError("heads is an empty list.", "Name at least one head.")
        weights = torch.zeros(batch, count, dtype=conditioned.dtype, device=conditioned.device)
        for head in heads:
            weights[:, check_position("head", head, count)] = 1
    elif heads == "mean":
        weights = torch.ones(batch, count, dtype=conditioned.dtype, device=conditioned.device)
    else:
        weights = eigenvalue_weights(second_eigenvalue(Chain(conditioned.scaled(columns=states), states, check=False)), heads)
    return normalised_weights(weights)


def eigenvalue_weights(second: Tensor, heads: str) -> Tensor:
    """Returns the weights of heads with the second eigenvalues |λ₂| `second`, same shape, before they are normalised.

    Args:
        second: |λ₂|, clamped to [0, 1] here.
        heads: "mean" (ones), "lambda2" (|λ₂|) or "inverse-lambda2" (1 − |λ₂|).

    Raises:
        AttentionError: another name.

    >>> eigenvalue_weights(torch.tensor([0.25, 1.0]), "inverse-lambda2")
    tensor([0.7500, 0.0000])
    """
    check_one_of("heads", heads, NAMED_WEIGHTS)
    if heads == "mean":
        return torch.ones_like(second)
    second = second.clamp(0, 1)
    return second if heads == "lambda2" else 1 - second


def normalised_weights(weights: Tensor) -> Tensor:
    """Returns non-negative weights (…, head) divided by their sum over heads; equal weights where all are zero.

    >>> normalised_weights(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    tensor([[0.2500, 0.7500],
            [0.5000, 0.5000]])
    """
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 1 / weights.shape[-1])
