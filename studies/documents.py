"""Runs the Python blocks of a page of documentation in order; `python -m studies.documents` writes their output.

A block ```` ```text ```` right after a ```` ```python ```` block holds the printed output of that block. The command writes
the output into the pages, and the `figure` of a tutorial or a quick start into `docs/images/`. The tests compare every page
with its run. A block that fetches a model needs real weights, and so do the blocks after it.
"""

from __future__ import annotations

import argparse
import io
import linecache
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from studies.speed.measurement import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
FETCH = " = fetch("
PICTURED = {"tutorials": "tutorial", "quick-start": "quick-start"}


class Run(NamedTuple):
    """A page with the output that its blocks printed now, and the names that they defined."""

    text: str
    names: dict[str, Any]


def fetches(page: Path) -> bool:
    """Says whether a block of the page fetches a model."""
    return any(FETCH in match["code"] for match in BLOCK.finditer(page.read_text(encoding="utf-8")))


def run(page: Path, fetching: bool = True) -> Run:
    """Runs the blocks of a page in order in one namespace; without `fetching` those before the first that fetches a model.

    Raises:
        Exception: any that a block raises.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    stopped = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal stopped
        block = match["code"]
        stopped = stopped or (FETCH in block and not fetching)
        if stopped:
            return match[0]
        file = f"<{page.name}, from {match.start()}>"
        linecache.cache[file] = len(block), None, block.splitlines(keepends=True), file  # nnsight reads the source of a trace
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block, file, "exec"), names)  # noqa: S102
        if match["printed"] is None:
            return match[0]
        return f"```python\n{block}```\n\n```text\n{printed.getvalue()}```\n"

    return Run(BLOCK.sub(replaced, page.read_text(encoding="utf-8")), names)


def main() -> None:
    from attnchain_interp.pictures import write_figure

    for page in PAGES:
        if all(match["printed"] is None for match in BLOCK.finditer(page.read_text(encoding="utf-8"))):
            continue
        text, names = run(page)
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(ROOT))
        if (kind := PICTURED.get(page.parent.name)) and "figure" in names:
            print(write_figure(names["figure"], ROOT / f"docs/images/{kind}-{page.stem}.png").relative_to(ROOT))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
