"""Files that are found by their published names, and what a folder holds, for messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnchain_interp import AttentionError


def published_file(path: str | Path, names: Sequence[str]) -> Path:
    """Returns the file of a path: itself, or the one file of the folder that has one of the published names."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise AttentionError(f"there is no file or folder {path}.", f"Pass the path of {_or(names)}.")
    there = [path / name for name in names if (path / name).is_file()]
    if len(there) == 1:
        return there[0]
    raise AttentionError(
        f"{path} holds {contents(path)}; exactly one of {_or(names)} is wanted.", "Pass the path of the file itself."
    )


def contents(folder: Path) -> str:
    """Returns the first names of a folder, for messages."""
    names = sorted(each.name + "/" * each.is_dir() for each in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def _or(names: Sequence[str]) -> str:
    return " or ".join(", ".join(names).rsplit(", ", 1))
