"""The patches into which a running model cuts images, where they do not divide the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.store import PatchPlaces

Pair = tuple[int, int]
_POOL: Final = ("input", "kernel_size", "stride", "padding")
_ARGUMENTS: Final[dict[Any, tuple[str, ...]]] = {
    F.pad: ("input", "pad"),
    F.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation"),
    F.avg_pool2d: _POOL,
    F.max_pool2d: (*_POOL, "dilation"),
    torch.max_pool2d: (*_POOL, "dilation"),
}
_CHANNELS: Final = 16  # that an image has at most


@final
@dataclass(frozen=True)
class _Cells:
    """The cells of a tensor, on the image of which it was made: where the first one begins, and the steps, in pixels."""

    image: Pair
    begins: tuple[float, float] = (0, 0)
    steps: Pair = (1, 1)


class Patches:
    """Sees the convolutions and pools that cut images into patches, one after another, and how images are padded before.

    Each patch lies around the middle of its receptive field, and is as large as a step of the convolution. Steps that begin at
    the upper left corner of the image, or that divide it, may be half of a step away. Where both are farther away, the places
    are unknown.
    """

    def __init__(self) -> None:
        self._places: dict[PatchPlaces, None] = {}
        self._cells: dict[Pair, _Cells] = {}  # by the size of the tensor

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a store: the places of the patches that do not divide images."""
        return PatchPlaces.written(self._places)

    def see(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Notes a function of torch and its result."""
        if function not in _ARGUMENTS or not isinstance(result, Tensor) or result.ndim != 4:
            return
        given = dict(zip(_ARGUMENTS[function], args, strict=False)) | dict(kwargs)
        read, grid = _pair(given["input"].shape[2:]), _pair(result.shape[2:])
        if read == grid:
            return
        cells = self._cells.get(read, _Cells(read))
        if function is not F.pad:
            self._cells[grid] = cells = _cut(cells, given)
            self._note(grid, cells)
        elif given["input"].shape[1] == result.shape[1] and (read in self._cells or result.shape[1] <= _CHANNELS):
            left, _, top, _ = (*given["pad"], 0, 0)[:4]
            self._cells[grid] = _Cells(cells.image, _moved(cells, (-top, -left)), cells.steps)

    def _note(self, grid: Pair, cells: _Cells) -> None:
        if cells.steps == (1, 1):
            return
        stepwise = dividing = 0.0  # how far patches are from where either puts them, in steps
        for count, step, begin, length in zip(grid, cells.steps, cells.begins, cells.image, strict=True):
            stepwise = max(stepwise, abs(begin) / step)
            dividing = max(dividing, abs(begin) / step, abs(begin + count * step - length) / step)
        if min(stepwise, dividing) > 0.5:
            self._places[PatchPlaces(grid, None, cells.image)] = None
        elif stepwise < dividing:
            self._places[PatchPlaces(grid, cells.steps, cells.image)] = None


def _cut(cells: _Cells, given: Mapping[str, Any]) -> _Cells:
    """The cells that a convolution or a pool makes of others, which lie around the middles of what they read."""
    taps = _pair(given["weight"].shape[2:] if "weight" in given else given["kernel_size"])
    strides, margins = _pair(given.get("stride", 1 if "weight" in given else None) or taps), _pair(given.get("padding", 0))
    reach = [(tap - 1) * dilation + 1 for tap, dilation in zip(taps, _pair(given.get("dilation", 1)), strict=True)]
    begins = [(reads - stride) / 2 - margin for reads, stride, margin in zip(reach, strides, margins, strict=True)]
    steps = (cells.steps[0] * strides[0], cells.steps[1] * strides[1])
    return _Cells(cells.image, _moved(cells, begins), steps)


def _moved(cells: _Cells, by: Sequence[float]) -> tuple[float, float]:
    """Where the first cell begins that begins so many cells away from the first of others."""
    (first, second), (rows, columns) = cells.begins, cells.steps
    return first + by[0] * rows, second + by[1] * columns


def _pair(numbers: int | Sequence[int] | str) -> Pair:
    if isinstance(numbers, str):  # "valid": with "same", a tensor keeps its size
        return 0, 0
    first, *_, last = (numbers, numbers) if isinstance(numbers, int) else (*numbers, *numbers)
    return first, last
