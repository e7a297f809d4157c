"""The places of results, which `--output` names: checked before a command loads anything, and made when it has a result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

PICTURES = (".png", ".pdf", ".svg")
FILMS = (".gif", ".mp4")
PAGES = (".html",)
_OTHERS = (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".eps", ".ps", ".htm", ".json", ".csv", ".txt")


def is_file(path: Path) -> bool:
    """Returns whether a place is that of a file: its ending is one of files. The name of a folder may hold dots."""
    return path.suffix.lower() in (*PICTURES, *FILMS, *PAGES, *_OTHERS) and not path.is_dir()


def check_file(path: Path, endings: tuple[str, ...], inputs: Iterable[str | Path] = ()) -> None:
    """Refuses a file of another kind, one of the inputs, and one whose place is a folder or lies in a file."""
    from attnchain_interp import AttentionError

    if path.is_dir():
        raise AttentionError(f"--output is {path}, which is a folder.", f"Write {path / f'NAME{endings[0]}'}.")
    if path.suffix not in endings:
        ends = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise AttentionError(f"--output is {path}, which {ends}.", f"End the name of the file in {', '.join(endings)}.")
    if path.exists() and any(os.path.exists(each) and path.samefile(each) for each in inputs):
        raise AttentionError(f"--output is {path}, which is the input and would be replaced.", "Choose another name.")
    check_folder(path.parent)


def check_place(path: Path, endings: tuple[str, ...], inputs: Iterable[str | Path]) -> None:
    """Checks the place of a picture with its scores beside it, or of a folder for them."""
    if is_file(path):
        check_file(path, endings, inputs)
        _check_scores(path.with_suffix(".json"))
    else:
        check_folder(path)


def _check_scores(path: Path) -> None:
    """Refuses the place of scores where another JSON file lies."""
    from attnchain_interp import AttentionError

    if not os.path.lexists(path):
        return
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {"model", "method"} <= found.keys():
        raise AttentionError(
            f"the scores belong into {path}, which was not written by this command and would be replaced.",
            "Choose another name: --output, or move that file.",
        )


def check_folder(path: Path) -> None:
    """Refuses a folder whose place is a file, lies in one, or must not be written."""
    from attnchain_interp import AttentionError

    there = next(part for part in (path, *path.parents, Path()) if os.path.lexists(part))
    if not there.is_dir():
        kind = "a file" if there.exists() else "a link to nothing"
        raise AttentionError(f"--output needs the folder {path}, and {there} is {kind}.", "Choose another place.")
    if not os.access(there, os.W_OK):
        raise AttentionError(f"--output needs the folder {path}, and {there} is read-only.", "Choose another place.")


def made(folder: Path) -> Path:
    """Returns the folder, which is made with those around it where it is not there."""
    from attnchain_interp import AttentionError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AttentionError(f"the folder {folder} could not be made ({error}).", "Choose another place.") from error
    return folder
