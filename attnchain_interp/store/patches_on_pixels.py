"""Where the patches of a grid lie on the pixels of an image that they do not divide: in words, in pixels, in cells."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.tokens import Grid

_PAIR: Final = "([1-9][0-9]*)×([1-9][0-9]*)"
_WORDS: Final = re.compile(f"{_PAIR} patches(?: of {_PAIR} pixels in {_PAIR}| in {_PAIR}, at places that are unknown)")


class PatchPlaces(NamedTuple):
    """How a model that leaves a rest of an image unread, or adds pixels, cuts it into patches from its upper left corner.

    Attributes:
        grid: rows and columns of the patches.
        patch: height and width of a patch in pixels; None where the places of the patches are unknown.
        size: height and width of the image.
    """

    grid: Grid
    patch: Grid | None
    size: Grid

    def __str__(self) -> str:
        grid, size = _by(self.grid), _by(self.size)
        if self.patch is None:
            return f"{grid} patches in {size}, at places that are unknown"
        return f"{grid} patches of {_by(self.patch)} pixels in {size}"

    @staticmethod
    def written(places: Iterable[PatchPlaces]) -> dict[str, str]:
        """Returns the places as metadata of a store, {"patches": "5×5 patches of 14×14 pixels in 83×83"}; {} without any."""
        text = "; ".join(map(str, places))
        return {"patches": text} if text else {}

    @staticmethod
    def read(metadata: Mapping[str, str]) -> list[PatchPlaces]:
        """Returns the places that `written` put into the metadata of a store."""
        places = []
        for found in filter(None, map(_WORDS.fullmatch, metadata.get("patches", "").split("; "))):
            numbers = [int(number) for number in found.groups() if number is not None]
            grid, *patch, size = zip(numbers[::2], numbers[1::2], strict=True)
            places.append(PatchPlaces(grid, patch[0] if patch else None, size))
        return places


def covered_by(store: AttentionStore, size: Grid) -> Grid:
    """Returns the height and width in pixels of an image that the patches of a store cover; all of it without a grid.

    Args:
        store: of images.
        size: height and width of the image. See `covered_size`.
    """
    return size if store.tokens.grid is None else covered_size(store.metadata, store.tokens.grid, size)


def covered_size(metadata: Mapping[str, str], grid: Grid, size: Grid) -> Grid:
    """Returns the height and width in pixels that a grid covers, from the upper left corner of an image.

    A model that cuts images into patches leaves a rest unread, or adds pixels, where its patches do not divide the image. The
    metadata of its store say so, see `PatchPlaces`. Without that the grid covers the image. An image of another size is taken
    for the one that the model read, resized, and the grid covers the same share of it. Where the metadata say that the places
    are unknown, the grid is spread over the image, and a warning says so.

    Args:
        metadata: of a store.
        grid: rows and columns of the patches.
        size: height and width of the image.

    >>> covered_size({"patches": "5×5 patches of 14×14 pixels in 83×83"}, (5, 5), (83, 83))
    (70, 70)
    """
    of_grid = [each for each in PatchPlaces.read(metadata) if each.grid == tuple(grid)]
    if any(each.patch is None for each in of_grid):
        warnings.warn(
            f"The model reads {grid[0]} × {grid[1]} patches that overlap or are padded, at places that are unknown. They are"
            " spread over the image, and may lie beside their places by more than half a patch.",
            stacklevel=3,
        )
    for _, patch, read in sorted(of_grid, key=lambda each: each.size != tuple(size)):
        if patch is not None:
            return round(grid[0] * patch[0] * size[0] / read[0]), round(grid[1] * patch[1] * size[1] / read[1])
    return size


def check_same_image(metadata: Mapping[str, str], images: Tensor) -> None:
    """Refuses scores of an image of another size than the input's (batch, channel, height, width)."""
    given, read = f"{images.shape[2]}×{images.shape[3]}", metadata.get("images")
    if read not in (None, given):
        raise AttentionError(
            f"the input is {given}, and the model inside gets images of {read}: resized or cropped, which is not known here.",
            f'Ask for output="grid", whose cells lie on those images, or pass images of {read}.',
        )


def on_pixels(cells: Tensor, metadata: Mapping[str, str], size: Grid) -> Tensor:
    """Returns the value of each pixel's cell (batch, height, width); zero where no cell lies.

    Args:
        cells: (batch, rows, columns).
        metadata: of the store.
        size: height and width of the images.
    """
    height, width = covered_size(metadata, (cells.shape[1], cells.shape[2]), size)
    spread = F.interpolate(cells[:, None], (height, width), mode="nearest")[:, 0]
    return F.pad(spread, (0, size[1] - width, 0, size[0] - height))


def in_cells(pixels: Tensor, metadata: Mapping[str, str], grid: Grid) -> Tensor:
    """Returns the sums (batch, rows, columns) of the values of pixels (batch, height, width) over the cells of a grid."""
    height, width = covered_size(metadata, grid, (pixels.shape[1], pixels.shape[2]))
    area = height * width / (grid[0] * grid[1])
    whole = F.pad(pixels, (0, width - pixels.shape[2], 0, height - pixels.shape[1]))
    return F.adaptive_avg_pool2d(whole, grid) * area


def _by(pair: Grid) -> str:
    return f"{pair[0]}×{pair[1]}"
