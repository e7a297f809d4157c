"""The notebooks of the tutorials and quick starts hold what the pages hold, and run."""

from __future__ import annotations

import ast
from pathlib import Path

import nbconvert
import nbformat
import pytest

from studies.documents import BLOCK
from studies.notebooks import INSTALL, notebook_of, notebooks, write

PAGES = notebooks()
PAGE = """# A page

```python
import torch
import attnchain_interp as ac

store = ac.AttentionStore.from_maps([torch.rand(1, 2, 5, 5).softmax(-1)])
print(len(store))
```

```text
1
```

```python
figure = ac.show_heads(store)
```
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("notebooks")
    return {
        file.relative_to(folder).with_suffix("").as_posix(): nbformat.read(file, 4) for file in write(folder) if small(file)
    }


def small(file: Path) -> bool:
    assert file.stat().st_size < 30_000
    return True


def test_every_tutorial_and_quick_start_is_a_notebook(written: dict[str, nbformat.NotebookNode]) -> None:
    assert list(written) == list(PAGES)
    assert {"tutorials/captum", "quick-start/language"} < set(written)
    assert not any(name.endswith("index") for name in written)


@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_holds_the_code_and_the_output_of_its_page(name: str, written: dict[str, nbformat.NotebookNode]) -> None:
    nbformat.validate(written[name])
    first, *code = [cell for cell in written[name].cells if cell.cell_type == "code"]
    assert first.source == INSTALL
    blocks = list(BLOCK.finditer(PAGES[name].read_text("utf-8")))
    assert len(code) == len(blocks)
    for cell, block in zip(code, blocks, strict=True):
        assert cell.source.removesuffix("figure").strip() == block["code"].strip()
        assert "".join(output.text for output in cell.outputs) == (block["printed"] or "")


def test_prose_has_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    links = "See [methods](../methods.md) and [there](https://x.org).\n\n![a](b.png)"
    page.write_text(f"# A page\n\n{links}\n\n```python\nfigure = 1\n```\n")
    _, prose, code = notebook_of(page).cells
    assert prose.source == "# A page\n\nSee methods and [there](https://x.org)."
    assert code.source == "figure = 1\nfigure", "the picture is shown"


@pytest.mark.parametrize("name", PAGES)
def test_nbconvert_takes_it(name: str, written: dict[str, nbformat.NotebookNode]) -> None:
    page, _ = nbconvert.HTMLExporter(embed_images=True).from_notebook_node(written[name])
    assert PAGES[name].read_text("utf-8").partition("\n")[0].lstrip("# ") in page
    body = nbformat.v4.new_notebook(cells=written[name].cells[1:])
    script, _ = nbconvert.PythonExporter().from_notebook_node(body)
    ast.parse(script)


def test_a_kernel_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    notebook = notebook_of(page)
    del notebook.cells[0]  # it installs what is here
    nbconvert.preprocessors.ExecutePreprocessor(timeout=300).preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    prints, shows = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(output.name, output.text) for output in prints.outputs] == [("stdout", "1\n")]
    assert any("image/png" in output.get("data", {}) for output in shows.outputs)
