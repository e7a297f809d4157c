"""The patches into which a running model cuts images, where they do not divide the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]
_CONVOLUTION: Final = ("input", "weight", "bias", "stride", "padding")
_PAD: Final = ("input", "pad")
_CHANNELS: Final = 16  # that an image has at most


class Patches:
    """Sees the convolutions that cut images into patches, and how images are padded before.

    Each patch lies around the middle of its receptive field, and is as large as a step of the convolution. Steps that begin at
    the upper left corner of the image, or that divide it, may be half of a step away. Where both are farther away, the places
    are unknown.
    """

    def __init__(self) -> None:
        self._uneven: dict[str, None] = {}
        self._padded: dict[Pair, tuple[Pair, Pair]] = {}  # size → size before, and what was added above and to the left

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a store, for `attribution`: "5×5 patches of 14×14 pixels in 83×83"."""
        return {"patches": "; ".join(self._uneven)} if self._uneven else {}

    def see(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Notes a function of torch and its result."""
        if function not in (F.pad, F.conv2d) or not isinstance(result, Tensor) or result.ndim != 4:
            return
        given = dict(zip(_PAD if function is F.pad else _CONVOLUTION, args, strict=False)) | dict(kwargs)
        before, after = _pair(given["input"].shape[2:]), _pair(result.shape[2:])
        if function is F.conv2d:
            self._see_convolution(given, before, after)
        elif given["input"].shape[1] == result.shape[1] <= _CHANNELS and before != after:
            left, _, top, _ = (*given["pad"], 0, 0)[:4]
            self._padded[after] = before, (top, left)

    def _see_convolution(self, given: Mapping[str, Any], read: Pair, grid: Pair) -> None:
        steps, padding = _pair(given.get("stride", 1)), given.get("padding", 0)
        margins = (0, 0) if isinstance(padding, str) else _pair(padding)  # no step but 1 goes with "same"
        size, added = self._padded.get(read, (read, (0, 0)))
        if steps == (1, 1):
            return
        stepwise = dividing = 0.0  # how far patches are from where either puts them, in steps
        for cells, step, taps, *before, length in zip(
            grid, steps, given["weight"].shape[2:], margins, added, size, strict=True
        ):
            begin = (taps - step) / 2 - sum(before)
            stepwise = max(stepwise, abs(begin) / step)
            dividing = max(dividing, abs(begin) / step, abs(begin + cells * step - length) / step)
        if min(stepwise, dividing) > 0.5:
            self._uneven[f"{grid[0]}×{grid[1]} patches in {size[0]}×{size[1]}, at places that are unknown"] = None
        elif stepwise < dividing:
            self._uneven |= dict.fromkeys(uneven(grid, steps, size))


def _pair(numbers: int | Sequence[int]) -> Pair:
    first, *_, last = (numbers, numbers) if isinstance(numbers, int) else (*numbers, *numbers)
    return first, last


def uneven(grid: Sequence[int], patch: Sequence[int], size: Sequence[int]) -> list[str]:
    """Returns how patches lie on an image, in words, where they do not divide it."""
    if all(cells * pixels == length for cells, pixels, length in zip(grid, patch, size, strict=True)):
        return []
    return [f"{grid[0]}×{grid[1]} patches of {patch[0]}×{patch[1]} pixels in {size[0]}×{size[1]}"]
