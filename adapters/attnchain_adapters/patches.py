"""The patches into which a running model cuts images, where they do not divide the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F


class Patches:
    """Sees each convolution whose kernel moves by its own size: it cuts images into patches, and leaves a rest unread."""

    def __init__(self) -> None:
        self._uneven: dict[str, None] = {}

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a store, for `attribution`: "5×5 patches of 14×14 pixels in 83×83"."""
        return {"patches": "; ".join(self._uneven)} if self._uneven else {}

    def see(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Notes a function of torch and its result."""
        if function is not F.conv2d or not isinstance(result, Tensor):
            return
        given = dict(zip(("input", "weight", "bias", "stride", "padding"), args, strict=False)) | dict(kwargs)
        kernel, stride, padding = given["weight"].shape[-2:], given.get("stride", 1), given.get("padding", 0)
        strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
        if tuple(kernel) == strides != (1, 1) and padding in (0, (0, 0), [0, 0], "valid"):
            self._uneven |= dict.fromkeys(uneven(result.shape[-2:], kernel, given["input"].shape[-2:]))


def uneven(grid: Sequence[int], patch: Sequence[int], size: Sequence[int]) -> list[str]:
    """Returns how patches lie on an image, in words, where they do not divide it."""
    if all(cells * pixels == length for cells, pixels, length in zip(grid, patch, size, strict=True)):
        return []
    return [f"{grid[0]}×{grid[1]} patches of {patch[0]}×{patch[1]} pixels in {size[0]}×{size[1]}"]
