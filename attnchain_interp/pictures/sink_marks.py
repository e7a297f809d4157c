"""Marks of attention sinks: dashed frames around their patches, and a line for each under the picture."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnchain_interp.pictures.figures import frame_patch, patch_at
from attnchain_interp.store import AttentionStore, LayerSelection, Sinks, known_sinks

_MOST = 6  # lines under a picture


def mark_sinks(figure: Figure, axes: Iterable[Axes], store: AttentionStore, layers: LayerSelection, example: int) -> None:
    """Marks the sinks of the shown layers in maps of a store (row, column), and lists them under the picture.

    A store that does not know its values has no marks.
    """
    found = known_sinks(store, layers)
    if found is not None:
        grid = store.tokens.grid or (1, 1)
        for axis in axes:
            frame_sinks(axis, found, example, grid)
        list_sinks(figure, found.lines(example))


def frame_sinks(axis: Axes, found: Sinks, example: int, size: tuple[int, int]) -> None:
    """Draws a dashed frame around each patch that is a sink of the example, on an image or a map of `size` (height, width)."""
    for position in found.described(example):
        place = patch_at(found.layout, position)
        if place is not None and found.layout.grid is not None:
            frame_patch(axis, place, found.layout.grid, size, dashed=True)


def list_sinks(figure: Figure, lines: list[str]) -> None:
    """Writes a line for each sink under the picture: those of the first six, and how many more there are."""
    if not lines:
        return
    shown = [f"attention sink: {line}" for line in lines[:_MOST]]
    shown += [f"… and {len(lines) - _MOST} more sinks"] if len(lines) > _MOST else []
    width = max(30, int(20 * figure.get_figwidth()))
    text = "\n".join(fill(line, width) for line in shown)
    figure.set_figheight(figure.get_figheight() + 0.1 * (text.count("\n") + 2))
    figure.supxlabel(text, fontsize=6, parse_math=False)
