"""Finds functions that put tokens at other places: they flip, roll, sort or choose along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_MOVES: Final = frozenset(
    [
        *(torch.flip, Tensor.flip, torch.fliplr, Tensor.fliplr, torch.flipud, Tensor.flipud, torch.roll, Tensor.roll),
        *(torch.index_select, Tensor.index_select, torch.gather, Tensor.gather),
        *(torch.take_along_dim, Tensor.take_along_dim, Tensor.__getitem__, torch.ops.aten.index),
    ]
)


def moves(function: Any, args: Sequence[Any]) -> bool:
    """Returns whether a function can put the entries of its first argument at other places. Slices keep their order.

    Nothing is known of tensors of other classes (sharded ones), and of nested ones.
    """
    if function not in _MOVES or not args or type(args[0]) is not Tensor or args[0].is_nested:
        return False
    return function is not Tensor.__getitem__ or any(map(_chooses, args[1] if isinstance(args[1], tuple) else args[1:]))


def moved_lengths(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> frozenset[int]:
    """Returns the lengths of the axes of a result of `moves` along which its entries are at other places than before.

    The function is run on the numbers of the places. The last of three or more axes holds features, which may be moved.
    """
    tensor, found = args[0], set[int]()
    options = {name: value for name, value in kwargs.items() if name != "out"}
    for axis in range(tensor.ndim - (tensor.ndim > 2)):
        numbers = torch.arange(tensor.shape[axis], device=tensor.device)
        numbers = numbers.view(-1, *[1] * (tensor.ndim - axis - 1)).expand(tensor.shape)
        found |= _unordered(function(numbers, *args[1:], **options))
    return frozenset(found)


def _unordered(numbers: Tensor) -> set[int]:
    """Returns the lengths of the axes along which numbers change otherwise than 0, 1, 2, …"""
    every = [numbers.movedim(axis, -1) for axis in range(numbers.ndim)]
    changing = [each for each in every if bool((each != each[..., :1]).any())]
    if any(bool((each == torch.arange(each.shape[-1], device=each.device)).all()) for each in changing):
        return set()
    return {each.shape[-1] for each in changing}


def _chooses(index: Any) -> bool:
    if isinstance(index, Tensor):
        return index.ndim > 0 and index.dtype != torch.bool
    return isinstance(index, list | np.ndarray)
