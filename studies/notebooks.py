"""`python -m studies.notebooks FOLDER`: the tutorials and quick starts as notebooks.

A notebook is its page: prose, code, and printed lines. So there is one text of each, and the tests of the pages are those of
the code in the notebooks. The site offers them on the pages.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from studies.documents import BLOCK
from studies.speed.measurement import ROOT

DOCS = ROOT / "docs"
INSTALL = "# In a clone. Elsewhere, write its path in place of the dot.\n%pip install -q '.[all]'"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook_of(page: Path) -> NotebookNode:
    """Returns the notebook of a page: a cell that installs the library, then the page's prose and its blocks of Python."""
    text = page.read_text(encoding="utf-8")
    cells, end = [new_code_cell(INSTALL)], 0
    for match in BLOCK.finditer(text):
        cells += [_prose(text[end : match.start()]), _code(match["code"], match["printed"])]
        end = match.end()
    cells = [cell for cell in [*cells, _prose(text[end:])] if cell.source]
    for number, cell in enumerate(cells):
        cell.id = f"{page.stem}-{number}"  # the same in each writing
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def _prose(text: str) -> NotebookNode:
    """A cell of prose, without pictures, which lie elsewhere, and with the text of links alone."""
    text = re.sub(r"^!\[.*?\]\(.*?\)\n", "", text, flags=re.MULTILINE)
    return new_markdown_cell(re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text).strip())


def _code(code: str, printed: str | None) -> NotebookNode:
    """A cell of code. A `figure` that it makes is shown."""
    shown = "figure" if re.search(r"^figure(, \w+)? = |^axes\.", code, re.MULTILINE) else ""
    outputs = [] if printed is None else [new_output("stream", name="stdout", text=printed)]
    return new_code_cell(f"{code}{shown}".strip(), outputs=outputs)


def notebooks() -> dict[str, Path]:
    """Returns the pages that have a notebook, by their names on the site."""
    pages = [page for folder in ("quick-start", "tutorials") for page in sorted((DOCS / folder).glob("*.md"))]
    return {page.relative_to(DOCS).with_suffix("").as_posix(): page for page in pages if page.stem != "index"}


def write(folder: Path) -> list[Path]:
    """Writes the notebooks, each into the folder of its page, and returns the files."""
    files = []
    for name, page in notebooks().items():
        file = folder / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook_of(page), file)
        files.append(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for written in write(parser.parse_args().folder):
        print(written)


if __name__ == "__main__":
    main()
