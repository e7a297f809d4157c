"""Figures as files. Text stays text, and the same figure is always the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole

_DATED: Final[dict[str, dict[str, Any]]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_STYLE: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "attnchain", "pdf.fonttype": 42}


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
    """Returns the path if its suffix is one of these kinds and its folder exists.

    Raises:
        AttentionError: another suffix, or no folder.
    """
    if path.suffix[1:] not in kinds:
        raise AttentionError(
            f"{path} ends in {path.suffix or 'no suffix'!r}.", f"Choose a name that ends in .{', .'.join(kinds)}."
        )
    if not path.parent.is_dir():
        raise AttentionError(f"there is no folder {path.parent} to write {path.name} into.", "Make the folder first.")
    return path
