"""The code in README and docs runs, and the tables are those that the commands wrote."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from studies.documents import PAGES, ROOT, run


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_code_blocks_run_in_order(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # nnsight puts it back in another order
    assert run(page).text == page.read_text(encoding="utf-8"), "what is printed: python -m studies.documents writes it"


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
