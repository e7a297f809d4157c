"""Attributions over their images, and many maps in a grid with a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.checks import check_one_of
from attnchain_interp.pictures.crop import cropped, inside, is_whole
from attnchain_interp.pictures.figures import (
    Box,
    blank_axes,
    colour_bar,
    draw_map,
    name_column,
    name_row,
    outline,
    write_caption,
    write_title,
)
from attnchain_interp.pictures.map_arguments import (
    Read,
    batch_of_maps,
    cells_of,
    check_colours,
    check_names,
    check_sinks,
    images_of,
    parts_of,
    under,
    warn_of_stretched,
)
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.pictures.sink_marks import frame_sinks, list_sinks, sink_patches, without
from attnchain_interp.store import Sinks

Share = Literal["all", "row", "column", "none"]


def show_attribution(
    attributions: Any,
    images: Any = None,
    normalization: Any = None,
    *,
    titles: Sequence[str] | None = None,
    signed: bool | None = None,
    share: bool = True,
    cmap: str | None = None,
    sinks: Sinks | None = None,
    keep_sinks: bool = False,
    smooth: bool = False,
    read: Read = None,
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
        read: the store of the images, where patches do not divide them: its patches cover a part. Or for each image the part
            that the model read, in pixels (left, top, right, bottom), such as `read_part` finds; None is the whole image. The
            part is framed, and the picture says how large it is. A list of images on which patches are not square gets a
            warning without `read`.
        title: above the picture: the method and the model, for example.

    Raises:
        AttentionError: NaN or infinite values, shapes or numbers of examples that do not fit, colours that matplotlib does not
            know, a part that is no box on its image, or as `displayable`.
    """
    check_colours(signed, cmap)
    maps = batch_of_maps(attributions, "attributions")
    pictures = images_of(images, normalization, len(maps))
    if read is None:
        warn_of_stretched(maps[:, None], images, pictures)
    names = check_names(titles, "titles", len(maps))
    parts = parts_of(read, pictures)
    check_sinks(sinks, len(maps))
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
            box = under(scores, read, parts[k], pictures[k])
            row[0].imshow(pictures[k])
            draw_map(row[-1], scores, own, pictures[k], cmap, smooth, box)
            alone.set_aspect((box[3] - box[1]) / (box[2] - box[0]) * scores.shape[1] / scores.shape[0])
            _frame((row[0], row[-1]), pictures[k], parts[k])
            if sinks is not None:
                frame_sinks(row[-1], sinks, k, parts[k])
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
    notes = _notes(pictures, parts, suffix)
    if any(places) and not keep_sinks:
        notes.append("Attention sinks (dashed) are left out of the scale.")
    lines = [] if sinks is None else [line + suffix[k] for k in range(len(maps)) for line in sinks.lines(k)]
    list_sinks(figure, lines, notes)
    write_title(figure, title)
    return figure


def _frame(axes: Iterable[Axes], picture: NDArray[np.float64], part: Box) -> None:
    """Draws a frame around the part of an image that was read, where that is not all of it."""
    if not is_whole(picture, part):
        for axis in axes:
            outline(axis, inside(picture, part))


def _notes(pictures: list[NDArray[np.float64]], parts: list[Box], names: Sequence[str]) -> list[str]:
    """Returns a line for each image of which a part was read, or one line where all are alike."""
    told = ["" if is_whole(picture, part) else cropped(picture, part) for picture, part in zip(pictures, parts, strict=True)]
    if len(set(told)) == 1:
        return list(filter(None, told[:1]))
    return [line + name for line, name in zip(told, names, strict=False) if line]


def show_grid(
    maps: Any,
    images: Any = None,
    normalization: Any = None,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    share: Share = "all",
    signed: bool | None = None,
    cmap: str | None = None,
    smooth: bool = False,
    read: Read = None,
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
            A scale is symmetric about zero if a value of its own maps is negative; with "none", of its column.
        signed, cmap, smooth, read, title: see `show_attribution`, also for the ends of a scale.

    Raises:
        AttentionError: no maps, NaN or infinite values, shapes or numbers that do not fit, or as `show_attribution`.
    """
    check_colours(signed, cmap)
    check_one_of("share", share, get_args(Share))
    if isinstance(maps, Mapping) and columns is None:
        columns = [str(name) for name in maps]
    cells = cells_of(maps)
    width = max(map(len, cells))
    pictures = images_of(images, normalization, len(cells))
    if read is None:
        warn_of_stretched(cells, images, pictures)
    parts = parts_of(read, pictures)
    row_names, column_names = check_names(rows, "rows", len(cells)), check_names(columns, "columns", width)
    figure, axes = blank_axes(len(cells), width + bool(pictures))
    panels = axes[:, bool(pictures) :]
    group = {"all": lambda i, j: 0, "row": lambda i, j: i, "column": lambda i, j: j, "none": lambda i, j: (i, j)}[share]
    places = [(i, j) for i, row in enumerate(cells) for j in range(len(row))]
    groups: dict[Any, list[tuple[int, int]]] = {}
    for i, j in places:
        groups.setdefault(group(i, j), []).append((i, j))
    signs = [Scale.of((row[j] for row in cells if j < len(row)), signed).signed for j in range(width)]
    for members in groups.values():
        shown = [cells[i][j] for i, j in members]
        scale = Scale.robust(shown, signs[members[0][1]] if share == "none" else signed)
        drawn = list[Any]()
        for (i, j), scores in zip(members, shown, strict=True):
            picture = pictures[i] if pictures else None
            box = None if picture is None else under(scores, read, parts[i], picture)
            drawn.append(draw_map(panels[i, j], scores, scale, picture, cmap, smooth, box))
        if share != "none":
            beside = {"all": axes, "row": axes[members[0][0]], "column": panels[:, members[0][1]]}[share]
            extend = scale.extend(np.concatenate([each.ravel() for each in shown]))
            colour_bar(figure, drawn[0], beside, "bottom" if share == "column" else "right", f"score{scale.note}", extend)
    for row, picture, part, maps_of in zip(axes, pictures, parts, cells, strict=False):
        row[0].imshow(picture)
        _frame(row[: 1 + len(maps_of)], picture, part)
    if pictures:
        name_column(axes[0, 0], "input")
    for axis, name in zip(axes[:, 0], row_names, strict=False):
        name_row(axis, name)
    for axis, name in zip(panels[0], column_names, strict=False):
        name_column(axis, name)
    of = row_names or [f"row {i + 1}" for i in range(len(cells))]
    write_caption(figure, _notes(pictures, parts, [f" ({each})" if len(cells) > 1 else "" for each in of]))
    write_title(figure, title)
    return figure
