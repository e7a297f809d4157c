"""The code in README and docs runs, and the tables are those that the commands wrote."""

from __future__ import annotations

import linecache
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_code_blocks_run_in_order(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # nnsight puts it back in another order
    names: dict[str, Any] = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python")):
        file = f"<{page.name}, block {number}>"
        linecache.cache[file] = len(block), None, block.splitlines(keepends=True), file  # nnsight reads the source of a trace
        exec(compile(block, file, "exec"), names)  # noqa: S102


def test_the_readme_holds_exactly_two_commands() -> None:
    commands = blocks(ROOT / "README.md", "sh")
    assert len(commands) == 2
    assert all(len(command.strip().splitlines()) == 1 for command in commands)
    assert "attnchain demo" in commands[0]
    assert "pytest" in commands[1]


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
