"""Figures as files: PDF, SVG and PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from attnchain_interp.checks import as_number, check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.files import as_path, whole
from attnchain_interp.operators.shared_setting import SharedSetting

_DATED: Final[dict[str, dict[str, Any]]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_STYLE: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "attnchain", "pdf.fonttype": 42}
_STYLED: Final = SharedSetting(partial(rc_context, _STYLE))
_PIXELS: Final = 2**16  # on a side, which matplotlib does not draw


def write_figure(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Writes the figure as PDF, SVG or PNG by the suffix of the path, atomically. Returns the path.

    In PDF and SVG text stays text, which can be searched and edited. The file holds no date: the same figure is always the
    same bytes.

    Args:
        figure: a matplotlib figure.
        path: ends in .pdf, .svg or .png.
        dpi: pixels per inch of a PNG, and of the images inside the other kinds.

    Raises:
        AttentionError: no figure, another suffix, no folder for the path, or a PNG of more than 65,535 pixels on a side.
    """
    path = checked_path(path, tuple(_DATED))
    check_type("figure", figure, Figure, "Pass what a function of ac.pictures returns, or axis.get_figure().")
    if not 0 < as_number(dpi) < math.inf:
        raise AttentionError(f"dpi is {dpi!r}; it is the number of pixels per inch.", "Pass dpi=150, which is usual.")
    kind, inches = path.suffix[1:], figure.get_size_inches()
    if kind == "png" and max(inches) * dpi >= _PIXELS:
        raise AttentionError(
            f"a PNG of {inches[0]:.0f} × {inches[1]:.0f} inches at dpi={dpi} has {max(inches) * dpi:.0f} pixels on a side; the"
            f" most are {_PIXELS - 1}.",
            f"Pass dpi={int((_PIXELS - 1) / max(inches))} or less, or write a PDF.",
        )
    drawn = BytesIO()  # matplotlib hides the error of a full disk behind one of its own
    with _STYLED:
        figure.savefig(drawn, format=kind, dpi=dpi, metadata=_DATED[kind])
    with whole(path) as file:
        file.write_bytes(drawn.getvalue())
    return path


def checked_path(path: str | Path, kinds: Sequence[str]) -> Path:
    """Returns the path if its suffix is one of these kinds and its folder exists."""
    path = as_path(path)
    if path.suffix[1:] not in kinds:
        raise AttentionError(
            f"{path} ends in {path.suffix or 'no suffix'!r}.", f"Choose a name that ends in .{', .'.join(kinds)}."
        )
    if not path.parent.is_dir():
        raise AttentionError(f"there is no folder {path.parent} to write {path.name} into.", "Make the folder first.")
    return path
