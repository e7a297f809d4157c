"""Attributions over their images, and many maps in a grid with a common scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.checks import check_one_of, check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.figures import (
    Box,
    blank_axes,
    colour_bar,
    draw_map,
    name_column,
    name_row,
    outline,
    write_title,
)
from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.reading import cropped, is_whole
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.pictures.sink_marks import frame_sinks, list_sinks, sink_patches, without
from attnchain_interp.store import Sinks

Share = Literal["all", "row", "column", "none"]
Cells = list[list[NDArray[np.float64]]]


def show_attribution(
    attributions: Any,
    images: Any = None,
    normalization: Any = None,
    titles: Sequence[str] | None = None,
    signed: bool | None = None,
    share: bool = True,
    cmap: str | None = None,
    sinks: Sinks | None = None,
    keep_sinks: bool = False,
    smooth: bool = False,
    read: Sequence[Box | None] | None = None,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure`: for each example the image, its attribution, and the attribution over the image.

    Where a few patches are far above all others, the colours end at a quantile, and where a map is far from zero everywhere
    they begin at one. The colour bar names it, and has an arrow at that end. Nothing is registered with pyplot. A notebook
    shows the figure as the value of a cell; `write_figure` writes it.

    Args:
        attributions: the result of `attribute`: (batch, rows, columns) with `output="grid"`, or (batch, channel, height,
            width), whose channels are summed as Captum does.
        images: (batch, channel, height, width), or channels last; or a list of images of any sizes, such as the photographs
            themselves. Without images the attribution stands alone.
        normalization: how the images were normalised: see `displayable`.
        titles: a name for each example.
        signed: whether the scale is symmetric about zero. None means: if a value is negative.
        share: whether all examples have one scale; each has its own else.
        cmap: matplotlib's name of the colours. None means "magma", and "RdBu_r" for a symmetric scale.
        sinks: `ac.sinks(store)` of the attention that was scored. Its patches have dashed frames and are left out of the
            scale, and its tokens are listed under the picture.
        keep_sinks: let patches that are sinks count in the scale too.
        smooth: blend the colours of neighbouring patches, instead of one colour for each.
        read: for each image the part that the model read, in pixels (left, top, right, bottom); None is the whole image. It
            is framed, and the picture says how large it is. See `read_part` for what is cropped, and `covered` for a rest
            that no patch reads.
        title: above the picture: the method and the model, for example.

    Raises:
        AttentionError: NaN or infinite values, shapes or numbers of examples that do not fit, or as `displayable`.
    """
    maps = _batch_of_maps(attributions, "attributions")
    pictures = _pictures(images, normalization, len(maps))
    names = _names(titles, "titles", len(maps))
    boxes = _boxes(read, pictures, len(maps))
    _check_sinks(sinks, len(maps))
    # where channels of pixels are scored, patches of sinks cannot be told from their values
    places = [
        sink_patches(sinks, k) if sinks is not None and sinks.layout.grid == maps[k].shape else [] for k in range(len(maps))
    ]
    scaled = [each if keep_sinks else without(each, gone) for each, gone in zip(maps, places, strict=True)]
    scale = Scale.robust(scaled, signed)
    tall = max((each.shape[0] / each.shape[1] for each in pictures), default=1.0)
    figure, axes = blank_axes(len(maps), 1 if images is None else 3, cell=2.6, tall=min(max(tall, 0.3), 2.0))
    for k, (row, scores) in enumerate(zip(axes, maps, strict=True)):
        own = scale if share else Scale.robust([scaled[k]], scale.signed)
        alone = row[-2 if pictures else 0]
        drawn = draw_map(alone, scores, own, cmap=cmap, smooth=smooth)
        if pictures:
            box = boxes[k] or (0, 0, *pictures[k].shape[1::-1])
            row[0].imshow(pictures[k])
            draw_map(row[-1], scores, own, pictures[k], cmap, smooth, box)
            alone.set_aspect((box[3] - box[1]) / (box[2] - box[0]) * scores.shape[1] / scores.shape[0])
            if boxes[k]:
                outline(row[0], box)
                outline(row[-1], box)
            if sinks is not None:
                frame_sinks(row[-1], sinks, k, box)
        if sinks is not None:
            frame_sinks(alone, sinks, k, (0, 0, *scores.shape[::-1]))
        if names:
            name_row(row[0], names[k])
        if not share or k == len(maps) - 1:
            label = f"score{own.note}"
            colour_bar(figure, drawn, axes if share else row, label=label, extend=own.extend(maps if share else scores))
    for axis, name in zip(axes[0], ("input", "attribution", "over the input") if pictures else ("attribution",), strict=True):
        name_column(axis, name)
    of = names or [f"image {k + 1}" for k in range(len(maps))]
    suffix = [f" ({each})" if len(maps) > 1 else "" for each in of]
    notes = [cropped(pictures[k], box) + suffix[k] for k, box in enumerate(boxes) if box]
    if any(places) and not keep_sinks:
        notes.append("Attention sinks (dashed) are left out of the scale.")
    lines = [] if sinks is None else [line + suffix[k] for k in range(len(maps)) for line in sinks.lines(k)]
    list_sinks(figure, lines, notes)
    write_title(figure, title)
    return figure


def _boxes(read: Sequence[Box | None] | None, pictures: list[NDArray[np.float64]], needed: int) -> list[Box | None]:
    """Returns the part of each image that was read; None where it is the whole image, but for a pixel."""
    if read is None:
        return [None] * needed
    if len(read) != len(pictures):
        raise AttentionError(f"read holds {len(read)} parts, for {len(pictures)} images.", "Give one for each image.")
    return [None if box is None or is_whole(picture, box) else box for picture, box in zip(pictures, read, strict=True)]


def _check_sinks(sinks: Sinks | None, needed: int) -> None:
    if sinks is not None and (sinks.layout.grid is None or sinks.layout.batch != needed):
        raise AttentionError(
            f"sinks are those of {sinks.layout}; the picture shows {needed} images.",
            "Pass sinks=ac.sinks(store) of the same images.",
        )


def show_grid(
    maps: Any,
    images: Any = None,
    normalization: Any = None,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    share: Share = "all",
    signed: bool | None = None,
    cmap: str | None = None,
    smooth: bool = False,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure` of many maps in rows and columns, with a common scale and a colour bar.

    Args:
        maps: a mapping from a method's name to the result of `attribute` for the images, each (batch, rows, columns) or
            (batch, channel, height, width): images are rows, methods are columns. Or rows of maps, for example layer × head:
            (row, column, height, width), or lists of lists of (height, width), which may have different lengths.
        images: one for each row (row, channel, height, width), shown in a column of their own and under every map.
        normalization: how the images were normalised: see `displayable`.
        rows, columns: names. The default for the columns of a mapping is its keys.
        share: the maps that share a scale: "all", each "row", each "column" (methods with different units), or "none".
        signed, cmap, smooth, title: see `show_attribution`, also for the ends of a scale.

    Raises:
        AttentionError: no maps, NaN or infinite values, shapes or numbers that do not fit, or as `displayable`.
    """
    check_one_of("share", share, get_args(Share))
    if isinstance(maps, Mapping) and columns is None:
        columns = [str(name) for name in maps]
    cells = _cells(maps)
    width = max(map(len, cells))
    pictures = _pictures(images, normalization, len(cells))
    row_names, column_names = _names(rows, "rows", len(cells)), _names(columns, "columns", width)
    figure, axes = blank_axes(len(cells), width + bool(pictures))
    panels = axes[:, bool(pictures) :]
    group = {"all": lambda i, j: 0, "row": lambda i, j: i, "column": lambda i, j: j, "none": lambda i, j: (i, j)}[share]
    places = [(i, j) for i, row in enumerate(cells) for j in range(len(row))]
    groups: dict[Any, list[tuple[int, int]]] = {}
    for i, j in places:
        groups.setdefault(group(i, j), []).append((i, j))
    signed = Scale.of((cells[i][j] for i, j in places), signed).signed
    for members in groups.values():
        shown = [cells[i][j] for i, j in members]
        scale = Scale.robust(shown, signed)
        unders = [pictures[i] if pictures else None for i, _ in members]
        drawn = [
            draw_map(panels[place], scores, scale, under, cmap, smooth)
            for place, scores, under in zip(members, shown, unders, strict=True)
        ]
        if share != "none":
            beside = {"all": axes, "row": axes[members[0][0]], "column": panels[:, members[0][1]]}[share]
            extend = scale.extend(np.concatenate([each.ravel() for each in shown]))
            colour_bar(figure, drawn[0], beside, "bottom" if share == "column" else "right", f"score{scale.note}", extend)
    for axis, picture in zip(axes[:, 0], pictures, strict=False):
        axis.imshow(picture)
    if pictures:
        name_column(axes[0, 0], "input")
    for axis, name in zip(axes[:, 0], row_names, strict=False):
        name_row(axis, name)
    for axis, name in zip(panels[0], column_names, strict=False):
        name_column(axis, name)
    write_title(figure, title)
    return figure


def _batch_of_maps(values: Any, name: str) -> NDArray[np.float64]:
    found = finite(values, name)
    if found.ndim == 4:
        found = found.sum(1)
    if found.ndim != 3 or 0 in found.shape:
        raise AttentionError(
            f"{name} has shape {found.shape}; `attribute` gives (batch, rows, columns) or (batch, channel, height, width).",
            'Pass map[None] for one map; ask for output="grid" instead of token scores.',
        )
    return found


def _cells(maps: Any) -> Cells:
    if isinstance(maps, Mapping):
        columns = {name: _batch_of_maps(values, f"the map of {name!r}") for name, values in maps.items()}
        sizes = {str(name): len(values) for name, values in columns.items()}
        if len(set(sizes.values())) != 1:
            raise AttentionError(
                f"maps has numbers of images that differ, or no method: {sizes}.", "Give each method one map per image."
            )
        return [list(row) for row in zip(*columns.values(), strict=True)]
    cells = [[finite(cell, f"the map in row {i}, column {j}") for j, cell in enumerate(row)] for i, row in enumerate(maps)]
    shapes = {cell.shape for row in cells for cell in row}
    if not shapes or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise AttentionError(
            f"maps holds {sorted(shapes) or 'nothing'}.",
            "Give (row, column, height, width), lists of lists of (height, width), or a mapping from a method's name to"
            " (batch, rows, columns).",
        )
    return cells


def _pictures(images: Any, normalization: Any, needed: int) -> list[NDArray[np.float64]]:
    if images is None:
        return []
    check_type("images", images, Sized, "Pass a list of images, one for each example or row of maps.")
    if len(images) != needed:
        raise AttentionError(f"images holds {len(images)}, for {needed} examples or rows of maps.", "Give one image for each.")
    return [displayable(image, normalization) for image in images]


def _names(names: Sequence[str] | None, argument: str, needed: int) -> list[str]:
    if names is not None and len(names) != needed:
        raise AttentionError(f"{argument} holds {len(names)} names; {needed} are needed.", "Give one for each.")
    return [str(name) for name in names or ()]
