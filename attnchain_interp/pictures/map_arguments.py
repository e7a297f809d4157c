"""The arguments of pictures of maps: maps, images, names, colours, sinks, and the parts of images that were read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from attnchain_interp.checks import check_one_of, check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.figures import Box, covered_box
from attnchain_interp.pictures.images import displayable, is_stretched
from attnchain_interp.pictures.scale import finite
from attnchain_interp.store import AttentionStore, Sinks

Read = Sequence[Box | None] | AttentionStore | None
"""For each image the part that the model read, or a store whose patches say it; None is the whole image."""

_READ_PARTS: Final = (
    "Pass read=[ac.pictures.read_part(preprocess, *image.size) for image in images], or read=[None] * len(images) if it"
    " cropped nothing."
)


def batch_of_maps(values: Any, name: str) -> NDArray[np.float64]:
    """Returns maps (batch, rows, columns); channels of pixels are summed."""
    found = finite(values, name)
    if found.ndim == 4:
        found = found.sum(1)
    if found.ndim != 3 or 0 in found.shape:
        raise AttentionError(
            f"{name} has shape {found.shape}; `attribute` gives (batch, rows, columns) or (batch, channel, height, width).",
            'Pass map[None] for one map; ask for output="grid" instead of token scores.',
        )
    return found


def cells_of(maps: Any) -> list[list[NDArray[np.float64]]]:
    """Returns rows of maps, each (height, width); a mapping has a column for each method."""
    if isinstance(maps, Mapping):
        columns = {name: batch_of_maps(values, f"the map of {name!r}") for name, values in maps.items()}
        sizes = {str(name): len(values) for name, values in columns.items()}
        if len(set(sizes.values())) != 1:
            raise AttentionError(
                f"maps has numbers of images that differ, or no method: {sizes}.", "Give each method one map per image."
            )
        return [list(row) for row in zip(*columns.values(), strict=True)]
    try:
        cells = [[finite(cell, f"the map in row {i}, column {j}") for j, cell in enumerate(row)] for i, row in enumerate(maps)]
    except TypeError:
        cells = []
    shapes = {cell.shape for row in cells for cell in row}
    if not shapes or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise AttentionError(
            f"maps holds {sorted(shapes) or 'nothing'}.",
            "Give (row, column, height, width), lists of lists of (height, width), or a mapping from a method's name to"
            " (batch, rows, columns).",
        )
    return cells


def images_of(images: Any, normalization: Any, needed: int) -> list[NDArray[np.float64]]:
    """Returns images for display, (height, width, 3) each; none where none are given."""
    if images is None:
        return []
    if not hasattr(images, "__len__"):
        cause = f"images is of type {type(images).__name__}; it must be a tensor or a list of images."
        raise AttentionError(cause, "Pass a list of images, one for each example or row of maps.")
    if len(images) != needed:
        raise AttentionError(f"images holds {len(images)}, for {needed} examples or rows of maps.", "Give one image for each.")
    return [displayable(image, normalization) for image in images]


def warn_of_stretched(maps: Iterable[Iterable[NDArray[Any]]], images: Any, pictures: Iterable[NDArray[Any]]) -> None:
    """Warns of the first photograph on which patches of its maps are not square: perhaps the model read a part of it.

    An array or a tensor of images is taken for the model's input.
    """
    if not isinstance(images, list | tuple):
        return
    pairs = enumerate(zip(maps, pictures, strict=True))
    shapes = [(k, *scores.shape, *picture.shape[:2]) for k, (row, picture) in pairs for scores in row]
    for k, rows, columns, height, width in shapes:
        if is_stretched((rows, columns), height, width):
            warnings.warn(
                f"A map of {rows} × {columns} is stretched over all of image {k + 1}, of {width} × {height} pixels. If the"
                f" preprocessing cropped the image, the map is in the wrong place. {_READ_PARTS}",
                stacklevel=3,
            )
            return


def parts_of(read: Read, pictures: list[NDArray[np.float64]]) -> list[Box]:
    """Returns the part of each image (height, width, 3) that was read."""
    if isinstance(read, AttentionStore):
        return [covered_box(read, picture) for picture in pictures]
    wholes = [whole(picture) for picture in pictures]
    if read is None:
        return wholes
    check_type("read", read, Sequence, "Pass a list with a box (left, top, right, bottom) for each image, or the store.")
    if len(read) != len(pictures):
        raise AttentionError(f"read holds {len(read)} parts, for {len(pictures)} images.", "Give one for each image.")
    return [all_of_it if box is None else _checked(box, all_of_it) for box, all_of_it in zip(read, wholes, strict=True)]


def whole(picture: NDArray[np.float64]) -> Box:
    """Returns all of an image (height, width, 3)."""
    return 0, 0, picture.shape[1], picture.shape[0]


def under(scores: NDArray[np.float64], read: Read, part: Box, picture: NDArray[np.float64]) -> Box:
    """Returns the part of an image on which a map lies. Patches of a store lie on what they cover, other maps on all of it."""
    elsewhere = isinstance(read, AttentionStore) and scores.shape != read.tokens.grid
    return whole(picture) if elsewhere else part


def _checked(box: Any, picture: Box) -> Box:
    if isinstance(box, AttentionStore):
        raise AttentionError("read holds a store in a list.", "Pass the store of all images itself: read=store.")
    edges = finite(box, "a part in read")
    if (
        edges.shape != (4,)
        or not (edges[:2] < edges[2:]).all()
        or not (edges[:2] < picture[2:]).all()
        or not (edges[2:] > 0).all()
    ):
        raise AttentionError(
            f"read holds the part {edges.tolist()} of an image of {picture[3]} × {picture[2]} pixels.",
            "Give left < right and top < bottom in pixels of the image: (left, top, right, bottom).",
        )
    left, top, right, bottom = edges.tolist()
    return left, top, right, bottom


def check_names(names: Sequence[str] | None, argument: str, needed: int) -> list[str]:
    """Returns the names that an argument holds; none where it is None."""
    if names is None:
        return []
    if not hasattr(names, "__len__"):
        raise AttentionError(
            f"{argument} is of type {type(names).__name__}; it must be a list of names.", "Give one for each."
        )
    if len(names) != needed:
        raise AttentionError(f"{argument} holds {len(names)} names; {needed} are needed.", "Give one for each.")
    return [str(name) for name in names]


def check_colours(signed: Any, cmap: Any) -> None:
    """Refuses a sign that is neither None nor a bool, and colours that matplotlib does not know."""
    check_one_of("signed", signed, (None, True, False))
    try:
        colormaps.get_cmap(cmap)
    except (TypeError, ValueError) as error:
        raise AttentionError(
            f"cmap is {cmap!r}, which matplotlib does not know as colours.",
            'Pass a name of matplotlib.colormaps, such as cmap="viridis", or leave cmap out.',
        ) from error


def check_sinks(sinks: Any, needed: int) -> None:
    """Refuses everything but the sinks of as many images as are shown; None is fine."""
    if sinks is None:
        return
    check_type("sinks", sinks, Sinks, "Pass sinks=ac.sinks(store) of the same images.")
    if sinks.layout.grid is None or sinks.layout.batch != needed:
        raise AttentionError(
            f"sinks are those of {sinks.layout}; the picture shows {needed} images.",
            "Pass sinks=ac.sinks(store) of the same images.",
        )
