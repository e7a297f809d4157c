"""Pages that are made of a report, and the part of the report that is kept beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnchain_interp.files import write_text

ROOT = Path(__file__).parents[1]


def as_kept(report: Mapping[str, Any]) -> str:
    """Returns the report as JSON, without the wins of every pair of methods."""
    return json.dumps({name: part for name, part in report.items() if name != "wins"}, indent=1) + "\n"


def kept(path: str) -> dict[str, Any]:
    """Returns a report that is kept at the path below the root."""
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def between(path: str, begin: str, end: str, text: str) -> str:
    """Returns the file at the path below the root, with the text between the two markers replaced."""
    whole = (ROOT / path).read_text(encoding="utf-8")
    before, rest = whole.split(begin)
    return before + begin + text + end + rest.split(end)[1]


def write(pages: Mapping[str, str]) -> None:
    for path, text in pages.items():
        write_text(ROOT / path, text)
        print(path)
