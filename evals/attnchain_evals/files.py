"""Text files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

from attnchain_interp import AttentionError
from attnchain_interp.files import whole


def write_text(path: Path, text: str) -> None:
    """Writes the text, in UTF-8.

    Raises:
        AttentionError: the disk is full or fails; what was there before stays.
    """
    try:
        with whole(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AttentionError(f"{path} could not be written ({error}).") from error
