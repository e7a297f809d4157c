"""Marks of attention sinks: dashed frames around their patches, and a line for each under the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.pictures.figures import Box, draw_map, frame_patch, patch_at, write_caption
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, LayerSelection, Sinks, known_sinks

_MOST = 6  # lines under a picture


def draw_marked(
    figure: Figure,
    maps: Iterable[tuple[Axes, NDArray[np.float64]]],
    store: AttentionStore,
    layers: LayerSelection,
    example: int,
    keep_sinks: bool,
) -> None:
    """Draws maps of a store (row, column), each with a scale of its own, and marks the sinks of the layers in them.

    A caption lists the sinks, and says which scales begin or end at a quantile. A store that does not know its values has no
    marks.
    """
    found = known_sinks(store, layers)
    places, grid = sink_patches(found, example), store.tokens.grid or (1, 1)
    told = list[str]()
    for axis, scores in maps:
        scale = Scale.robust([scores if keep_sinks else without(scores, places)])
        told += [scale.note] if scale.note else []
        draw_map(axis, scores, scale)
        if found is not None:
            frame_sinks(axis, found, example, (0, 0, grid[1], grid[0]))
    left_out = " without attention sinks (dashed)" if places and not keep_sinks else ""
    notes = [f"Each map has its own scale{left_out}, from zero to its greatest value."] if left_out or told else []
    notes += [f"{counted(count, 'scale')}: {note.removeprefix(', ')}." for note, count in Counter(told).items()]
    list_sinks(figure, [] if found is None else found.lines(example), [" ".join(notes)] if notes else [])


def frame_sinks(axis: Axes, found: Sinks, example: int, box: Box) -> None:
    """Draws a dashed frame around each patch that is a sink of the example, in a box of an image or a map."""
    for place in sink_patches(found, example):
        frame_patch(axis, place, found.layout.grid or (1, 1), box, dashed=True)


def sink_patches(found: Sinks | None, example: int) -> list[tuple[int, int]]:
    """Returns (row, column) of each patch that is a sink of the example."""
    if found is None:
        return []
    places = (patch_at(found.layout, position) for position in found.described(example))
    return [place for place in places if place is not None]


def without(grid: NDArray[np.float64], places: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Returns the values of a map without those of some patches; all of them where none would be left."""
    kept = np.ones(grid.shape[-2:], dtype=bool)
    for place in places:
        kept[place] = False
    return grid[..., kept] if kept.any() else grid


def list_sinks(figure: Figure, lines: list[str], notes: Sequence[str] = ()) -> None:
    """Writes notes under the picture, and a line for each sink: those of the first six, and how many more there are."""
    shown = [f"attention sink: {line}" for line in lines[:_MOST]]
    shown += [f"… and {len(lines) - _MOST} more sinks"] if len(lines) > _MOST else []
    write_caption(figure, [*notes, *shown])
