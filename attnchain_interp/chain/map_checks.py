"""Checks that maps are transition matrices: probabilities, rows that sum to one, as many queries as keys."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.precision import wide_dtype

ROW_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # 16-bit maps are rounded after the softmax: 2e-2


@torch.no_grad()
def check_rows(maps: Tensor, name: str, rows: Tensor | None = None, below_one: bool = False) -> None:
    """Checks that every row is a distribution over the keys.

    Args:
        maps: (…, query, key).
        name: of the maps, for the message.
        rows: bool, broadcastable to (…, query). Rows that are false (padding) are not looked at.
        below_one: rows may sum to less than one (an attention sink was dropped after the softmax).

    Raises:
        AttentionError: not floating point, NaN or infinite, negative, or rows that do not sum to one.
    """
    if not maps.is_floating_point():
        raise AttentionError(f"{name} is {maps.dtype}.", "Pass floating-point probabilities.")
    low = maps.amin(-1)
    sums = maps.sum(-1, dtype=wide_dtype(maps.dtype))
    if rows is not None:
        rows = rows.expand_as(sums)
        low, sums = low[rows], sums[rows]
    if not bool(sums.isfinite().all()):
        raise AttentionError(
            f"{name} holds {int((~sums.isfinite()).sum())} rows with NaN or infinity. A row with every key masked becomes NaN"
            " in a softmax.",
            "Mark such queries as Role.PAD in the TokenLayout, or find the overflow.",
        )
    if low.numel() and float(low.min()) < 0:
        raise AttentionError(
            f"{name} has negative entries (least {float(low.min()):.3g}). Signed attention (talking heads, differential"
            " attention) is not a chain.",
            "Pass probabilities after the softmax.",
        )
    off = sums - 1 if below_one else (sums - 1).abs()
    worst = off.max().item() if sums.numel() else 0.0
    if worst > ROW_TOLERANCE.get(maps.dtype, 2e-2):
        raise AttentionError(
            f"{name} is not row-stochastic: a row sums to 1 {'+' if below_one else '±'} {worst:.3g}.",
            "Pass probabilities after the softmax and before dropout (put the model in .eval()), with queries as rows. If the"
            " softmax has a sink, rows are below one: pass LayerAttention(…, sink=True).",
        )


def check_square(maps: Tensor, name: str) -> None:
    """Checks that maps have as many queries as keys.

    Raises:
        AttentionError: `maps` is not (…, token, token).
    """
    if maps.ndim < 2 or maps.shape[-1] != maps.shape[-2] or maps.shape[-1] == 0:
        raise AttentionError(
            f"{name} has shape {tuple(maps.shape)}; a chain needs square maps (…, query, key).",
            "Pass self-attention. Cross-attention and pooled attention are not chains.",
        )
