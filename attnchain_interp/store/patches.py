"""Where the patches of a grid lie on an image that they do not divide."""

from __future__ import annotations

import re
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
    another size is taken for the one that the model read, resized, and the grid covers the same share of it.

    Args:
        metadata: of a store.
        grid: rows and columns of the patches.
        size: height and width of the image.

    >>> covered({"patches": "5×5 patches of 14×14 pixels in 83×83"}, (5, 5), (83, 83))
    (70, 70)
    """
    found = [tuple(map(int, re.findall(r"\d+", each))) for each in metadata.get("patches", "").split("; ")]
    of_grid = [each for each in found if each[:2] == tuple(grid) and len(each) == 6 and all(each)]
    for _, _, tall, wide, height, width in sorted(of_grid, key=lambda each: each[4:] != tuple(size))[:1]:
        return round(grid[0] * tall * size[0] / height), round(grid[1] * wide * size[1] / width)
    return size
