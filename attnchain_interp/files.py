"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnchain_interp.errors import AttentionError

__all__ = ["whole", "write_text"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a path of the same suffix to write to. At the end that file replaces `path`.

    After an error the new file is removed, and an earlier file at `path` stays as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)  # a temporary file is its owner's alone
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes the text in UTF-8, whole or not at all.

    Raises:
        AttentionError: the disk is full or fails. An earlier file at `path` stays as it was.
    """
    try:
        with whole(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AttentionError(f"{path} could not be written ({error}).", "Free some space, or name another folder.") from error
