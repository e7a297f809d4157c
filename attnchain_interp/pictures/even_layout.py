"""The layout of figures with many axes. The time of matplotlib's constrained layout grows faster than their number."""

from __future__ import annotations

from typing import Final, final

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.layout_engine import LayoutEngine

_LINE: Final = 1.2 / 72  # inches of a line of text whose font has one point
_LEFT, _EDGE, _NAME, _GAP = 0.3, 0.1, 0.18, 0.1  # inches: names of rows, the edge, the name above an axes, between axes
_BAR, _BESIDE = 0.2, {"right": 0.8, "bottom": 0.6}  # inches of a colour bar, and with its numbers and its label


@final
class EvenLayout(LayoutEngine):
    """Places axes in equal cells, with room for the names of rows and columns, the title, the caption and colour bars.

    Args:
        rows, columns: the numbers of axes, without colour bars.
    """

    _adjust_compatible = True
    _colorbar_gridspec = False

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._rows, self._columns = rows, columns
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
        right, low, above = _EDGE + beside["right"] + _GAP, bottom + beside["bottom"] + _GAP / 2, _NAME + _GAP / 2
        width = (wide - _LEFT - right + _GAP) / self._columns - _GAP
        height = (high - top - low + _GAP / 2) / self._rows - above
        fig.subplots_adjust(
            left=_LEFT / wide,
            right=1 - right / wide,
            bottom=low / high,
            top=1 - (top + _NAME) / high,
            wspace=_GAP / width,
            hspace=above / height,
        )
        for bar, parents, where in self.bars:
            boxes = [axis.get_position(original=True) for axis in parents]
            if where == "right":
                first = min(box.y0 for box in boxes)
                place = 1 - beside[where] / wide, first, _BAR / wide, max(box.y1 for box in boxes) - first
            else:
                first = min(box.x0 for box in boxes)
                place = first, (bottom + beside[where] - _BAR - _GAP) / high, max(box.x1 for box in boxes) - first, _BAR / high
            bar.set_position(place)
