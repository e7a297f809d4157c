"""The layout of figures with many axes. The time of matplotlib's constrained layout grows faster than their number."""

from __future__ import annotations

from typing import Any, Final, final

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.layout_engine import LayoutEngine
from numpy.typing import NDArray

_LINE: Final = 1.2 / 72  # inches of a line of text whose font has one point
_LEFT, _EDGE, _NAME, _GAP = 0.3, 0.1, 0.18, 0.1  # inches: names of rows, the edge, the name above an axes, between axes
_BAR, _BESIDE = 0.2, {"right": 0.8, "bottom": 0.6}  # inches of a colour bar, and with its numbers and its label


@final
class EvenLayout(LayoutEngine):
    """Places axes in equal cells, with room for the names of rows and columns, the title, the caption and colour bars.

    Args:
        axes: all axes of the figure (row, column) but its colour bars.
    """

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, axes: NDArray[Any]) -> None:
        super().__init__()
        self._axes = axes
        self.bars: list[tuple[Axes, list[Axes], str]] = []
        """Each colour bar, the axes that share it, and where it stands: "right" or "bottom"."""

    def execute(self, fig: FigureBase) -> None:
        wide, high = fig.get_figure(root=True).get_size_inches()
        beside = {where: max((_BESIDE[where] for _, _, each in self.bars if each == where), default=0) for where in _BESIDE}
        top, bottom = _EDGE, _EDGE
        for text in fig.texts:
            needed = _LINE * float(text.get_fontsize()) * (text.get_text().count("\n") + 1)
            if text.get_verticalalignment() == "top":  # the title
                text.set_y(1 - _EDGE / high)
                top += needed + _EDGE
            else:
                text.set_y(_EDGE / high)
                bottom += needed + _EDGE
        rows, columns = self._axes.shape
        cell = (wide - _LEFT - _EDGE - beside["right"]) / columns, (high - top - bottom - beside["bottom"]) / rows
        for (row, column), axis in zip(((r, c) for r in range(rows) for c in range(columns)), self._axes.flat, strict=True):
            left, upper = _LEFT + column * cell[0], high - top - row * cell[1]
            box = left, upper - cell[1] + _GAP / 2, cell[0] - _GAP, cell[1] - _NAME - _GAP / 2
            axis.set_position((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high))
        for bar, parents, where in self.bars:
            boxes = [axis.get_position(original=True) for axis in parents]
            if where == "right":
                low = min(box.y0 for box in boxes)
                place = 1 - beside[where] / wide, low, _BAR / wide, max(box.y1 for box in boxes) - low
            else:
                low = min(box.x0 for box in boxes)
                above = bottom + beside[where] - _BAR - _GAP
                place = low, above / high, max(box.x1 for box in boxes) - low, _BAR / high
            bar.set_position(place)
