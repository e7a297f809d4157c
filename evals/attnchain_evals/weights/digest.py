"""The sha256 digest of a file, and the refusal of another one."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

from attnchain_interp import AttentionError


def sha256(path: Path) -> str:
    """Returns the digest of a file in hexadecimal digits, as the program sha256sum prints it."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, wanted: str, fix: str) -> None:
    """Refuses a file of another digest."""
    if (found := sha256(path)) != wanted:
        raise AttentionError(f"{path.name} has the sha256 {found}; {wanted} is wanted.", fix)
