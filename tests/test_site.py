"""The pages of the site hold every public name and every source. Sphinx checks their form (`.ci/run`)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from studies.public_names import public_names
from studies.speed.measurement import ROOT

SOURCES = [file for folder in ("attnchain_interp", "adapters", "evals") for file in (ROOT / folder).rglob("*.py")]


def test_every_public_name_is_on_the_api_pages_once() -> None:
    text = "\n".join(page.read_text("utf-8") for page in sorted((ROOT / "docs/api").glob("*.md")))
    found = Counter(re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.MULTILINE))
    public = set(public_names())
    assert not (absent := public - set(found)), f"add to docs/api: {sorted(absent)}"
    assert not (stale := set(found) - public), f"remove from docs/api: {sorted(stale)}"
    assert not (twice := [name for name, count in found.items() if count > 1]), f"twice in docs/api: {twice}"


def test_every_page_that_a_source_names_exists() -> None:
    named = {page for file in SOURCES for page in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text("utf-8"))}
    assert len(named) > 5
    assert not (absent := [page for page in named if not (ROOT / page).exists()]), f"no such pages: {sorted(absent)}"


@pytest.mark.parametrize("folder", ["quick-start", "tutorials", "how-to", "api"])
def test_a_page_of_pages_links_each_of_them(folder: str) -> None:
    """A toctree is hidden, and GitHub shows none."""
    text = (ROOT / f"docs/{folder}/index.md").read_text("utf-8")
    trees = re.findall(r"^```{toctree}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    pages = [f"({line}.md)" for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert len(pages) > 3
    assert [page for page in pages if page not in text] == []


def sources(file: Path) -> list[str]:
    """The paragraphs "Source: …" of a file's docstrings, each on one line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [
        ast.get_docstring(node) or "" for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, documented)
    ]
    return [" ".join(found.split()) for text in texts for found in re.findall(r"Sources?:(.*?)(?:\n\n|\Z)", text, re.DOTALL)]


def test_the_bibliography_is_what_docstrings_cite() -> None:
    page = (ROOT / "docs/bibliography.md").read_text("utf-8")
    entries = [" ".join(entry.split()) for entry in re.findall(r"^- (.*?)(?=\n- |\n\n|\Z)", page, re.DOTALL | re.MULTILINE)]
    cited = [(file.name, source) for file in SOURCES for source in sources(file)]
    assert len(cited) > 30
    for name, source in cited:
        for author, year in re.findall(r"([A-Z]\w+)(?:,? [^;()]*?| et al\.,? )[^;]*?\b((?:19|20)\d\d)\b", source):
            assert any(author in entry and year in entry for entry in entries), (
                f"{name} cites {author} {year}, absent from the page"
            )
    said = " ".join(source for _, source in cited)
    for entry in entries:
        assert entry.split(",")[0].split(" ")[0] in said, f"no docstring cites {entry}"
