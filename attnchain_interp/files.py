"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from attnchain_interp.errors import AttentionError

try:
    import fcntl
except ImportError:  # not on Windows, where folders of killed writers stay
    fcntl = None

__all__ = ["as_path", "whole", "write_text"]

_PARTIAL = ".attnchain-partial-"


def as_path(path: Any) -> Path:
    """Returns the path of a file.

    Raises:
        AttentionError: no path, or characters that no file name can have.
    """
    try:
        name = os.fsencode(path)
    except (TypeError, ValueError):
        name = b"\0"
    if b"\0" in name:
        raise AttentionError(f"{path!r} is not a path of a file.", "Pass a string or a pathlib.Path.")
    return Path(os.fsdecode(path))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a path of the same name, in a folder of its own, to write to. At the end that file replaces `path`.

    A new file has the mode that the umask gives, an earlier one keeps its own. A symbolic link stays, and its target is
    replaced. After an error the new file is removed, and an earlier one stays as it was. A killed process leaves its folder
    behind, until another file is written beside it.

    Raises:
        AttentionError: no place to write to, a file that must not be written, or a disk that is full or fails.
    """
    try:
        target = Path(os.path.realpath(as_path(path)))
        _check_writable(target)
        _sweep(target.parent)
        with _folder(target.parent) as folder:
            partial = folder / path.name
            partial.touch()
            mode = S_IMODE((target if target.exists() else partial).stat().st_mode)
            yield partial
            partial.chmod(mode)  # whoever wrote it may have replaced it, and its mode
            os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise AttentionError(
            f"{path} could not be written ({error}).", "Free some space, or name a file in a folder that you may write to."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes the text in UTF-8, whole or not at all.

    Raises:
        AttentionError: as `whole`, or text that UTF-8 cannot hold. An earlier file at `path` stays as it was.
    """
    try:
        contents = text.encode()
    except UnicodeEncodeError as error:
        raise AttentionError(f"{path} cannot hold its text ({error}).", "Remove the lone surrogates.") from error
    with whole(path) as partial:
        partial.write_bytes(contents)


def _check_writable(target: Path) -> None:
    if target.exists() or target.is_symlink():  # a link that is still one leads to itself
        target.stat()
        if not target.is_file():
            raise OSError("it is not a regular file")
        if not os.access(target, os.W_OK):
            raise PermissionError("the file is read-only")


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """Yields a new folder, locked for as long as it is used, so that nobody sweeps it away."""
    while True:
        with TemporaryDirectory(dir=parent, prefix=_PARTIAL) as name:
            lock = _lock(name, wait=True)
            try:
                if os.path.isdir(name):  # nobody took it for a leftover before it was locked
                    yield Path(name)
                    return
            finally:
                if lock is not None:
                    os.close(lock)


def _sweep(parent: Path) -> None:
    """Removes the folders that killed processes left."""
    for folder in os.scandir(parent):
        if folder.name.startswith(_PARTIAL) and (lock := _lock(folder.path)) is not None:
            shutil.rmtree(folder.path, ignore_errors=True)
            os.close(lock)


def _lock(folder: str, wait: bool = False) -> int | None:
    """Returns a descriptor that locks the folder until it is closed; None where another holds it, or where locks are none."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor
