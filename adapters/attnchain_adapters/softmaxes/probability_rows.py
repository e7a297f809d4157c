"""Knows probabilities by their numbers: no entry is negative, and rows sum to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

Rows = Literal["probabilities", "positive"]


def rows_of(weights: Any) -> Rows | None:
    """Returns what the rows (…, row, entry) of a factor are: probabilities, positive numbers, or neither (None).

    Two rows are looked at first, which costs little, and all rows where one of them sums to one. A row may be zero, as that of
    a padded query. Rows whose entries are all equal, up to zeros, choose tokens or take their mean, and weigh none. Nor do
    rows with an entry of exactly one weigh tokens: a recurrence decays what is before a token, and not the token.
    """
    if not _looked_at(weights):
        return None
    few = weights[(0,) * (weights.ndim - 2)][:: max(weights.shape[-2] - 1, 1)]
    least, *sums = torch.cat([few.amin()[None], few.sum(-1)]).tolist()
    if not least >= 0:
        return None
    error = 1e-3 if weights.dtype.itemsize > 2 else 2e-2
    if all(abs(total - 1) > error for total in sums):
        return "positive" if any(sums) else None
    sums = weights.sum(-1)
    whole = ((sums - 1).abs() < error) | (sums == 0)
    if not bool(whole.all() & (weights >= 0).all()):
        return "positive"
    most = weights.amax(-1)
    weighs = (most * weights.ne(0).sum(-1) > (1 + error) * sums) & (most != 1)
    return "probabilities" if bool(weighs.any()) else None


def excess(weights: Tensor, axes: Sequence[int] = (-1, -2)) -> int:
    """Returns how far the rows or the columns of a factor, or either, are from probabilities.

    0: they sum to one. 1: they are parts of such, as where a key or a head is left out. 2: they are neither.
    """
    if not _looked_at(weights) or is_negative(weights):
        return 2
    error = 1e-3 if weights.dtype.itemsize > 2 else 2e-2
    sums = [weights.sum(axis) for axis in axes]
    if any(bool(((each - 1).abs() < error).all()) for each in sums):
        return 0
    return 1 if any(bool((each < 1 + error).all()) for each in sums) else 2


def even_rows(weights: Tensor) -> bool:
    """Returns whether all rows sum to one and the same number, but zero, as those of maps that were scaled or subtracted."""
    if not _looked_at(weights):
        return False
    sums = weights.sum(-1)
    least, most = sums.amin().item(), sums.amax().item()
    return least * most > 0 and most - least < (1e-3 if weights.dtype.itemsize > 2 else 2e-2) * max(abs(least), abs(most))


def is_negative(tensor: Any) -> bool:
    """Returns whether a tensor holds negative entries; False where its numbers cannot be looked at."""
    return _looked_at(tensor) and bool((tensor < 0).any())


def _looked_at(weights: Any) -> bool:
    return (
        isinstance(weights, Tensor)
        and not isinstance(weights, nn.Parameter)
        and weights.ndim > 1
        and weights.shape[-1] > 1
        and weights.numel() > 0
        and weights.is_floating_point()
        and weights.layout is torch.strided
        and weights.device.type != "meta"
        and not is_functorch_wrapped_tensor(weights)
    )
