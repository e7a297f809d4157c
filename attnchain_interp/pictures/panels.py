"""Axes in a grid, maps and names in them, and colour bars. Figures are not registered with pyplot."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.pictures.scale import Scale

SEQUENTIAL, DIVERGING = "magma", "RdBu_r"  # both without red against green


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
