"""The format in which a file holds a store."""

from __future__ import annotations

from pathlib import Path

from attnchain_interp.files import as_path


def stored_format(path: str | Path) -> int:
    """Returns the number of the format in which a store was written. Formats from 5 on have a checksum.

    Raises:
        AttentionError: no such file, no store, or a damaged one.
    """
    from attnchain_interp.store.safetensors_file import contents  # loads pydantic

    return contents(as_path(path), mmap=True)[0].version
