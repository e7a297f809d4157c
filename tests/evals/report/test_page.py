"""The page: well formed, self-contained, everything escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import torch

from attnchain_evals.bench.example_maps import ExampleMaps, write_example_maps
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import run
from attnchain_evals.report import page
from attnchain_evals.report.report import as_json, write_report

from ..bench_tasks import ALONE, HOSTILE, made, plan

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_asks_for_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    parsed = Page()
    parsed.feed(text)
    assert not parsed.open
    tags = [tag for tag, _ in parsed.tags]
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(tags)
    assert tags.count("img") == 4 * 4, "input, mask and two maps of four examples"
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset")]
        assert str(attributes.get("xlink:href", "#")).startswith("#"), "a mark that is drawn again, on this page"
        assert tag != "img" or str(attributes["src"]).startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import", text)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        pair for tag, attributes in parsed.tags if tag == "meta" for pair in attributes.items()
    ]
    assert HOSTILE not in text
    assert "prefers-color-scheme: dark" in text


def test_many_methods_are_folded(tmp_path: Path) -> None:
    magnitude = plan().methods["magnitude"]
    many = plan(methods={f"m{k}": magnitude for k in range(page.MANY)}, limit=3)
    run(many, tmp_path, ALONE)
    write_example_maps(many, tmp_path)
    write_report(BenchmarkResult.read(tmp_path, many.metrics), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.count("<summary>every method</summary>") >= 3
    assert "in report.json" in text
    assert "<img" not in text


def test_a_text_is_a_row_of_squares_for_each_method(tmp_path: Path) -> None:
    result = made({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0, 3.0, 5.0]})
    maps = torch.tensor([[[0.0, 1.0]], [[torch.nan, 3.0]]])
    text = page.page(result, as_json(result, {}), ExampleMaps(None, None, maps, [["<s>", "word"]]))
    assert re.findall(r'title="([^"]*)"><svg.*?fill-opacity="([^"]*)"', text, re.DOTALL) == [
        ("a, &lt;s&gt;: 0", "0.000"),
        ("a, word: 1", "1.000"),
        ("b, &lt;s&gt;: nan", "0.000"),
        ("b, word: 3", "0.000"),
    ]
