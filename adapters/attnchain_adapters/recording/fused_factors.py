"""The factors of the map that a fused call uses."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from attnchain_interp import AttentionError, Factors

_ROWS: Final = 1024  # rows of a mask that are compared together


def fused_factors(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Factors:
    """Returns the factors of the map that `scaled_dot_product_attention` uses for the same arguments.

    Raises:
        AttentionError: dropout is active.
    """
    if dropout_p > 0:
        raise AttentionError(f"attention dropout {dropout_p} is active, so maps are random.", "Call model.eval() first.")
    causal_keys = None if attn_mask is None or is_causal else _causal_with_padding(attn_mask)
    mask, is_causal = (attn_mask, is_causal) if causal_keys is None else (causal_keys, True)
    return Factors(query, key, scale=scale, mask=mask, causal=is_causal)


def _causal_with_padding(mask: Tensor) -> Tensor | None:
    """The keys (batch, 1, 1, token) of a boolean mask that is causal attention to these keys; None for another mask.

    Every row counts: one whose token does not attend to itself need not be padding.
    """
    if mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2] != mask.shape[3]:
        return None
    keys, places = mask.diagonal(dim1=-2, dim2=-1)[:, :, None], torch.arange(mask.shape[-1], device=mask.device)
    for rows in places.split(_ROWS):
        if not torch.equal(mask[:, :, rows], keys & (places <= rows[:, None])):
            return None
    return keys.clone()
