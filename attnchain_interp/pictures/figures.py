"""Figures, not registered with pyplot: axes in a grid, maps and patches in them, colour bars; and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.store import Role, TokenLayout
from attnchain_interp.store.starts import token_positions

SEQUENTIAL, DIVERGING = "magma", "RdBu_r"  # both without red against green
_DATED: Final[dict[str, dict[str, Any]]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_STYLE: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "attnchain", "pdf.fonttype": 42}


def blank_axes(rows: int, columns: int, cell: float = 1.5) -> tuple[Figure, NDArray[Any]]:
    """Returns a new figure and its axes (row, column), each `cell` inches wide, without ticks or frames."""
    figure = Figure(figsize=(cell * columns, cell * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def draw_map(
    axis: Axes, scores: NDArray[Any], scale: Scale, image: NDArray[Any] | None = None, cmap: str | None = None
) -> ScalarMappable:
    """Draws the map in colours. Over an image, which is drawn in grey, each patch covers its part of the image."""
    extent = None
    if image is not None:
        height, width, _ = image.shape
        axis.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=1)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    return axis.imshow(
        scores,
        cmap=cmap or (DIVERGING if scale.signed else SEQUENTIAL),
        norm=scale.norm,
        extent=extent,
        interpolation="nearest",
        alpha=None if image is None else 0.6,
    )


def name_row(axis: Axes, name: str) -> None:
    """Writes the name of a row to its left."""
    axis.text(-0.08, 0.5, name, fontsize=6, rotation=90, va="center", ha="right", transform=axis.transAxes, parse_math=False)


def name_column(axis: Axes, name: str) -> None:
    """Writes the name of a column, or of one panel, above it."""
    axis.set_title(name, fontsize=7, parse_math=False)


def colour_bar(figure: Figure, drawn: ScalarMappable, axes: NDArray[Any], location: str = "right") -> None:
    """Draws a colour bar beside the axes that share it."""
    bar = figure.colorbar(drawn, ax=list(np.ravel(axes)), location=location, shrink=0.8, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=6)
    if bar.solids is not None:
        bar.solids.set_alpha(1)  # it would be pale for a map over an image


def on_grid(tokens: TokenLayout, scores: Tensor, example: int) -> NDArray[np.float64]:
    """Returns the scores (batch, …, token) of one example as (…, rows, columns)."""
    return finite(tokens.to_grid(scores)[check_position("example", example, len(scores))], "the scores")


def patch_at(tokens: TokenLayout, token: object) -> tuple[int, int] | None:
    """Returns (row, column) of a token ("center", "class" or a number) on the grid; None if it is not a patch."""
    if tokens.grid is None or not isinstance(token, str | int) or token in ("uniform", "last"):
        return None
    position = int(token_positions(tokens, token)[0])
    if int(tokens.roles[0, position]) != Role.PATCH:
        return None
    patch = int((tokens.roles[0, :position] == Role.PATCH).sum())
    return divmod(patch, tokens.grid[1])


def frame_patch(
    axis: Axes, place: tuple[int, int], grid: tuple[int, int], size: tuple[int, int], dashed: bool = False
) -> None:
    """Draws a frame around the patch (row, column) of an image or a map of `size` (height, width)."""
    tall, wide = size[0] / grid[0], size[1] / grid[1]
    corner = (place[1] * wide - 0.5, place[0] * tall - 0.5)
    frame = Rectangle(corner, wide, tall, fill=False, edgecolor="#56B4E9" if dashed else "#E69F00", linewidth=1.2)
    frame.set_linestyle((0, (2, 1)) if dashed else "solid")
    frame.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
    axis.add_patch(frame)


def write_figure(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Writes the figure as PDF, SVG or PNG by the suffix of the path, atomically. Returns the path.

    In PDF and SVG text stays text, which can be searched and edited. The file holds no date: the same figure is always the
    same bytes.

    Args:
        figure: a matplotlib figure.
        path: ends in .pdf, .svg or .png.
        dpi: pixels per inch of a PNG, and of the images inside the other kinds.

    Raises:
        AttentionError: another suffix, or no folder for the path.
    """
    path = checked_path(Path(path), tuple(_DATED))
    kind = path.suffix[1:]
    with whole(path) as partial, rc_context(_STYLE):
        figure.savefig(partial, format=kind, dpi=dpi, metadata=_DATED[kind])
    return path


def checked_path(path: Path, kinds: Sequence[str]) -> Path:
    """Returns the path if its suffix is one of these kinds and its folder exists."""
    if path.suffix[1:] not in kinds:
        raise AttentionError(
            f"{path} ends in {path.suffix or 'no suffix'!r}.", f"Choose a name that ends in .{', .'.join(kinds)}."
        )
    if not path.parent.is_dir():
        raise AttentionError(f"there is no folder {path.parent} to write {path.name} into.", "Make the folder first.")
    return path
