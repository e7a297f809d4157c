"""A page within a budget, as a file and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer.page import script

from .stores import random_store


def test_a_smaller_budget_gives_a_smaller_page_that_says_what_was_left_out() -> None:
    store = random_store(layers=6, heads=6, n=50)
    full = ac.explore(store)
    assert full.payload.header["maps"]["what"] == "heads"
    seen = []
    least = len(script()) + 20_000
    for share in (0.6, 0.3, 0.1):
        room = (least + share * (len(full.html) - least)) / 1e6
        page = ac.explore(store, max_mb=room)
        assert len(page.html.encode()) <= room * 1e6
        held = page.payload.header["maps"]
        seen.append((held["what"], held["levels"], held["kept"]))
        assert len(held["passed"]) >= 1
    assert len(set(seen)) == 3
    with pytest.raises(ac.AttentionError, match=r"max_mb is 0.01, and the page takes 0\.\d+ MB without any map"):
        ac.explore(store, max_mb=0.01)


def test_a_notebook_shows_the_same_page_and_a_file_is_whole(tmp_path: Path) -> None:
    explorer = ac.explore(random_store())
    path = explorer.write(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == explorer.html
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    framed: list[str | None] = []

    class Frame(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            framed.append(dict(attrs).get("srcdoc"))

    Frame().feed(explorer._repr_html_())
    assert framed == [explorer.html]
    assert explorer.html == ac.explore(random_store()).html


def test_something_else_than_a_store_is_refused_by_its_type() -> None:
    for other in (torch.nn.Linear(1, 1), torch.eye(2), None):
        with pytest.raises(
            ac.AttentionError, match=f"store is of type {type(other).__name__}; it must be of type AttentionStore"
        ):
            ac.explore(other)  # type: ignore[arg-type]
