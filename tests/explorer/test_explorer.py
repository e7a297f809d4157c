"""A page within a budget, as a file and in a notebook."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer.page import page, script

from .stores import random_store


def test_a_smaller_budget_gives_a_smaller_page_that_says_what_was_left_out() -> None:
    store = random_store(layers=6, heads=6, n=50)
    full = ac.explore(store, max_mb=4)
    assert full.payload.header["maps"]["what"] == "heads"
    seen = []
    least = len(script()) + 20_000
    for share in (0.6, 0.3, 0.1):
        room = (least + share * (len(full.html) - least)) / 1e6
        smaller = ac.explore(store, max_mb=room)
        assert len(smaller.html.encode()) <= room * 1e6
        held = smaller.payload.header["maps"]
        seen.append((held["what"], held["levels"], held["kept"]))
    assert len(set(seen)) == 3
    with pytest.raises(ac.AttentionError, match=r"max_mb is 0.01, and the page takes 0\.\d+ MB without any map"):
        ac.explore(store, max_mb=0.01)


def test_a_notebook_shows_the_same_page_and_a_file_is_whole(tmp_path: Path) -> None:
    explorer = ac.explore(random_store())
    path = explorer.write(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == explorer.html
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    found = Frame(explorer._repr_html_())
    assert found.source == page(explorer.payload)
    assert explorer.html == ac.explore(random_store()).html


class Frame(HTMLParser):
    """The document in the frame of a notebook's output, and the tags outside of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.source, self.tags = "", list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.source = dict(attrs).get("srcdoc") or self.source


def test_three_pages_in_a_notebook_are_smaller_than_two_megabytes() -> None:
    store = random_store(layers=12, heads=6, n=14 * 14 + 1)
    explorer = ac.explore(store, torch.rand(3, 480, 480, generator=torch.Generator().manual_seed(0)))
    assert len(explorer.html) > 2_000_000
    shown = explorer._repr_html_()
    assert 3 * len(json.dumps(shown)) < 2_000_000
    assert Frame(shown).source == page(explorer.notebook_payload)
    assert explorer.notebook_payload.header["maps"]["what"] in ("layers", "means", "all")


def test_without_scripts_a_still_picture_is_shown() -> None:
    for explorer, tag in (
        (ac.explore(random_store(), torch.rand(3, 9, 9)), "img"),
        (ac.explore(random_store()), "img"),
        (ac.explore(random_store(causal=True)), "span"),
    ):
        shown = explorer._repr_html_()
        assert shown.startswith(f"<noscript>{explorer.still}</noscript>")
        assert tag in Frame(explorer.still).tags
        assert "script" not in Frame(explorer.still).tags
        assert explorer.html.count(explorer.still) == 1
        assert explorer.still not in Frame(shown).source


@pytest.mark.parametrize(
    ("causal", "outputs", "message"),
    [(True, 10, "outputs is 10 of 10 tokens"), (False, 1, "no decoder"), (True, -1, "outputs is -1")],
)
def test_outputs_that_nothing_predicts_are_refused(causal: bool, outputs: int, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.explore(random_store(causal=causal), outputs=outputs)


def test_something_else_than_a_store_is_refused_by_its_type() -> None:
    for other in (torch.nn.Linear(1, 1), torch.eye(2), None):
        with pytest.raises(
            ac.AttentionError, match=f"store is of type {type(other).__name__}; it must be of type AttentionStore"
        ):
            ac.explore(other)  # type: ignore[arg-type]
