"""Figures as files: text as text, nothing that changes from one day to the next."""

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
    """Writes the figure as PDF, SVG or PNG by the path's suffix, atomically; returns the path.

    In PDF and SVG text stays text, which can be searched and edited. There are no dates in the file: the same figure is
    written again as the same bytes.

    Args:
        dpi: pixels an inch of a PNG, and of what is no line or text in the others.

    Raises:
        AttentionError: another suffix, or no folder for the path.
    """
    path = checked_path(Path(path), tuple(_DATED))
    kind = path.suffix[1:]
    with whole(path) as partial, rc_context(_STYLE):
        figure.savefig(partial, format=kind, dpi=dpi, metadata=_DATED[kind])
    return path


def checked_path(path: Path, kinds: Sequence[str]) -> Path:
    """The path, whose suffix is of these kinds and whose folder exists.

    Raises:
        AttentionError: otherwise.
    """
    if path.suffix[1:] not in kinds:
        raise AttentionError(f"{path} ends in {path.suffix or 'no suffix'!r}; it must end in .{', .'.join(kinds)}.")
    if not path.parent.is_dir():
        raise AttentionError(f"there is no folder {path.parent} to write {path.name} into; make it first.")
    return path
