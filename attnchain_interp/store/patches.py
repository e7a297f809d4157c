"""Where the patches of a grid lie on an image that they do not divide."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.tokens import Grid


def covered_by(store: AttentionStore, size: Grid) -> Grid:
    """Returns the height and width in pixels of an image that the patches of a store cover; all of it without a grid.

    Args:
        store: of images.
        size: height and width of the image. See `covered`.
    """
    return size if store.tokens.grid is None else covered(store.metadata, store.tokens.grid, size)


def covered(metadata: Mapping[str, str], grid: Grid, size: Grid) -> Grid:
    """Returns the height and width in pixels that a grid covers, from the upper left corner of an image.

    A model that cuts images into patches leaves a rest unread, or adds pixels, where its patches do not divide the image. The
    metadata of its store say so: "5×5 patches of 14×14 pixels in 83×83". Without that the grid covers the image. An image of
    another size is taken for the one that the model read, resized, and the grid covers the same share of it. Where the
    metadata say that the places are unknown, the grid is spread over the image, and a warning says so.

    Args:
        metadata: of a store.
        grid: rows and columns of the patches.
        size: height and width of the image.

    >>> covered({"patches": "5×5 patches of 14×14 pixels in 83×83"}, (5, 5), (83, 83))
    (70, 70)
    """
    said = metadata.get("patches", "").split("; ")
    if any(each.startswith(f"{grid[0]}×{grid[1]} ") and "unknown" in each for each in said):
        warnings.warn(
            f"The model reads {grid[0]} × {grid[1]} patches that overlap or are padded, at places that are unknown. They are"
            " spread over the image, and may lie beside their places by more than half a patch.",
            stacklevel=3,
        )
    found = [tuple(map(int, re.findall(r"\d+", each))) for each in said]
    of_grid = [each for each in found if each[:2] == tuple(grid) and len(each) == 6 and all(each)]
    for _, _, tall, wide, height, width in sorted(of_grid, key=lambda each: each[4:] != tuple(size))[:1]:
        return round(grid[0] * tall * size[0] / height), round(grid[1] * wide * size[1] / width)
    return size
