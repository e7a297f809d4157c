"""The code in README and docs runs, and the tables are those that the commands wrote."""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from studies.documents import PAGES, PICTURED, ROOT, fetches, run

from .test_imports import ADAPTERS_ROOMS, CORE_ROOMS, EVALS_ROOMS

HOMES = [ROOT, *(ROOT / folder for folder in ("attnchain_interp", "adapters/attnchain_adapters", "evals/attnchain_evals"))]
MAPS = ("docs/architecture.md", "CONTRIBUTING.md")
PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+(?:/|\.(?:py|pyi|md|toml|js|json|html|css|safetensors))")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_code_blocks_run_in_order(page: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # nnsight puts it back in another order
    there = bool(os.environ.get("ATTNCHAIN_WEIGHTS"))
    assert run(page, there).text == page.read_text(encoding="utf-8"), "what is printed: python -m studies.documents writes it"
    if fetches(page):
        request.getfixturevalue("real_weights")  # says that the rest of the page was left out, where there are none


def test_blocks_from_the_first_that_fetches_on_wait_for_weights(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    fetching = 'folder = fetch("smollm2")'
    shown = [f"```python\n{code}\n```\n\n```text\nold\n```\n" for code in ("print(1)", fetching, "print(2)")]
    page.write_text("\n".join(shown), encoding="utf-8")
    assert fetches(page)
    assert run(page, fetching=False).text == page.read_text("utf-8").replace("old", "1", 1)
    assert [path for path in PAGES if path.parent.name == "tutorials" and path.stem != "index" and not fetches(path)] == []


def test_the_readme_holds_exactly_two_commands() -> None:
    commands = blocks(ROOT / "README.md", "sh")
    assert len(commands) == 2
    assert all(len(command.strip().splitlines()) == 1 for command in commands)
    assert "attnchain demo" in commands[0]
    assert "pytest" in commands[1]


def test_a_page_shows_the_figure_that_the_command_writes_for_it() -> None:
    figured = [page for page in PAGES if page.parent.name in PICTURED and "\nfigure = " in page.read_text("utf-8")]
    assert len(figured) > 2
    for page in figured:
        assert f"(../images/{PICTURED[page.parent.name]}-{page.stem}.png)" in page.read_text("utf-8"), page.name


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def found(path: str) -> list[Path]:
    """Where a path of docs/architecture.md is: below the repository, or below one of the packages."""
    return [home / path for home in HOMES if (home / path).exists()]


def defined(file: Path) -> set[str]:
    """The names of a module and, after a dot, those of its classes."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names |= {node.name} | {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def absent(text: str) -> list[str]:
    """The paths in backticks that do not exist, and the `file.py: name` whose file does not define the name."""
    wrong = []
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        path, _, name = span.partition(": ")
        if PATH.fullmatch(path) and not [file for file in found(path) if not name or name in defined(file)]:
            wrong.append(span)
    return wrong


@pytest.mark.parametrize("page", MAPS)
def test_every_path_and_name_of_the_maps_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert len(re.findall(r"`[^`\n]+/[^`\n]*`", text)) > 20
    assert not absent(text)


def test_every_study_that_a_page_names_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m (studies(?:\.\w+)+)", page.read_text("utf-8")):
            assert find_spec(name), f"{page.name}: python -m {name}"


def test_the_order_of_rooms_is_the_order_that_is_tested() -> None:
    text = (ROOT / MAPS[0]).read_text("utf-8")
    shown = [paragraph.split(" → ") for paragraph in text.replace(" →\n", " → ").split("\n") if paragraph.count(" → ") > 5]
    assert shown == [CORE_ROOMS, ADAPTERS_ROOMS, EVALS_ROOMS]


def test_what_is_absent_is_found() -> None:
    text = "`chain/chain.py: Chain.step` `chain/chain.py: Chian` `chain/chian.py` `errors.py` `roms/` `a / b` `MAX/2`"
    assert absent(text) == ["chain/chain.py: Chian", "chain/chian.py", "roms/"]


def test_every_folder_of_the_tree_exists() -> None:
    tree = re.findall(r"^```text\n(attnchain_interp/ .*?)^```", (ROOT / MAPS[0]).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (lines,) = (text.splitlines() for text in tree)
    above: list[tuple[int, str]] = []
    shown = set()
    for line in lines:
        name = line.split()[0]
        indent = len(line) - len(line.lstrip())
        above = [(depth, folder) for depth, folder in above if depth < indent]
        path = "".join(folder for _, folder in above) + name
        assert (ROOT / path).exists(), f"{path} is in the tree of {MAPS[0]} and does not exist"
        shown.add(path.rstrip("/"))
        above.append((indent, name))
    for home in HOMES[1:]:
        rooms = {room.parent.relative_to(ROOT).as_posix() for room in home.glob("*/__init__.py")}
        assert not (missing := rooms - shown), f"add to the tree of {MAPS[0]}: {sorted(missing)}"
