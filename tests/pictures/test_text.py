"""HTML of tokens: ours alone, whatever the tokens are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.pictures.text import HTML, luminance

NASTY = [
    "<script>alert(1)</script>",
    "</script><img onerror=x src=y>",
    "\"'&amp;",
    "Ġthe",
    "\u202eright",
    "שלום",
    "",
    "🙂",
    "</bdi>",
]
OURS = {"div", "span", "bdi", "wbr", "table", "tr", "td", "th"}


class Read(HTMLParser):
    """Tags, attributes and the text of each `bdi`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.tokens: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag != "wbr":
            self.open.append(tag)
        if tag == "bdi":
            self.tokens.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "bdi":
            self.tokens[-1] += data

    @property
    def titles(self) -> list[str]:
        return [title for each in self.attributes if (title := each.get("title")) is not None]


def test_tokens_come_back_and_nothing_else_gets_in() -> None:
    scores = torch.linspace(0, 1, len(NASTY))
    read = Read(pictures.text_html(NASTY, scores))
    assert read.tokens == NASTY
    assert set(read.tags) <= OURS
    assert not read.open
    assert {name for each in read.attributes for name in each} <= {"style", "title"}
    assert read.titles == [f"{score:.6g}" for score in scores.tolist()]


def test_a_table_of_output_and_input_tokens() -> None:
    scores = torch.randn(2, len(NASTY), generator=torch.Generator().manual_seed(0))
    read = Read(pictures.text_html(NASTY, scores, rows=["<b>out", "two"]))
    assert read.tokens == [*NASTY, "<b>out", "two"]
    assert set(read.tags) <= OURS
    assert not read.open
    assert {name for each in read.attributes for name in each} <= {"style", "title", "scope"}
    assert read.titles == [f"{score:.6g}" for score in scores.flatten().tolist()]
    assert (read.tags.count("tr"), read.tags.count("th")) == (3, len(NASTY) + 2)


@pytest.mark.parametrize("rows", [None, ["out", "two"]])
def test_attention_sinks_have_an_outline_and_a_line(rows: list[str] | None) -> None:
    scores, told = torch.rand(*([2] if rows else []), len(NASTY)), {0: "takes <b>all</b>", 3: "takes half"}
    read = Read(page := pictures.text_html(NASTY, scores, rows, sinks=told))
    assert set(read.tags) <= OURS
    assert page.count("outline:2px dashed") == 2
    assert read.tokens[-2:] == [NASTY[0], NASTY[3]]
    assert page.endswith("</bdi> is an attention sink: it takes half</div></div>")
    assert "takes &lt;b&gt;all" in page
    assert "outline" not in pictures.text_html(NASTY, scores, rows, sinks={})
    with pytest.raises(ac.AttentionError, match=r"sinks has the positions \[9\]; there are 9 tokens"):
        pictures.text_html(NASTY, scores, rows, sinks={9: "takes all"})


def test_what_cannot_be_printed_is_seen() -> None:
    page = pictures.text_html(["\ud800x", "a\nb\r", "\0", "\t"], [1, 2, 3, 4])
    page.encode("utf-8")
    assert Read(page).tokens == ["\\ud800x", "a␊b␍", "␀", "␉"]


def colours(page: str) -> list[str]:
    return re.findall(r'title="[^"]*" style="background:(#\w{6})', page)


def test_colours_say_how_much() -> None:
    sequential = colours(pictures.text_html(list("abc"), [0, 0.5, 1]))
    assert [luminance(colour) for colour in sequential] == sorted(map(luminance, sequential), reverse=True)
    low, zero, high = colours(pictures.text_html(list("abc"), [-1, 0, 1]))
    assert int(low[5:], 16) > int(low[1:3], 16), "against: blue"
    assert int(high[1:3], 16) > int(high[5:], 16), "for: red"
    assert luminance(zero) > 0.9
    assert (
        colours(pictures.text_html(list("ab"), [0.5, 1], signed=True))[0]
        != colours(pictures.text_html(list("ab"), [0.5, 1]))[0]
    )


@pytest.mark.parametrize("value", [0.0, 2.0, -2.0])
def test_constant_scores(value: float) -> None:
    assert len(set(colours(pictures.text_html(list("abc"), [value] * 3)))) == 1


def test_text_is_readable_on_every_colour() -> None:
    page = pictures.text_html(["x"] * 41, torch.linspace(-1, 1, 41)) + pictures.text_html(["x"] * 41, torch.linspace(0, 1, 41))
    pairs = re.findall(r"background:(#\w{6});color:(#\w{3})", page)
    assert len(pairs) == 82
    for background, text in pairs:
        light, dark = sorted((luminance(background), 1.0 if text == "#fff" else 0.0), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2, AA"


def test_it_shows_itself_in_a_notebook() -> None:
    page = pictures.text_html(["a"], [1])
    assert isinstance(page, HTML)
    assert type(page._repr_html_()) is str
    assert page._repr_html_() == page
    assert "http" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"], [1.0]), r"scores has shape \(1,\); it must be \(token,\) = \(2,\)"),
        ((["a"], [[1.0]]), r"rows=\[…\] for a table \(row, token\)"),
        ((["a"], [[1.0]], ["x", "y"]), r"it must be \(row, token\) = \(2, 1\)"),
        (([], []), "and not empty"),
        ((["a", "b"], [1.0, float("nan")]), "scores holds 1 values of 2"),
        ((["a", 5], [1.0, 2.0]), r"tokens\[1\] is a int; it must be text"),
        ((["a"], [[1.0]], [b"x"]), r"rows\[0\] is a bytes"),
    ],
)
def test_what_cannot_be_shown(arguments: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        pictures.text_html(*arguments)
