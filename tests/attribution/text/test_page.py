"""The page of a text result: its own elements alone, a shade for every word and row, no script."""

from __future__ import annotations

import re

import pytest
import torch

from attnchain_interp.attribution.text.page import Sentence, Shaded, page

NASTY = ["<script>x", "</style>", " \"'&", " a\u202eb", "\0", " \ud800", "🙂"]
ROWS = torch.tensor([[1.0, 0, 2, 0, 0, 0, 0], [0, 4, 0, -1, 0, 0, 0]])


def shown(template: list[bool] | None = None, sinks: dict[int, str] | None = None, rows: torch.Tensor = ROWS) -> Shaded:
    outputs = ["<b>", " two"][: len(rows)]
    return Shaded(NASTY, template or [False] * len(NASTY), sinks or {}, outputs, rows, None, "by <rows>")


def shades(found: str) -> list[dict[str, float]]:
    """The variables of each word."""
    spans = re.findall(r'<span id="\w+" class="[^"]*" title="[^"]*"(?: style="([^"]*)")?>', found)
    return [{name: float(value) for name, value in re.findall(r"--(\w+):([-.\d]+)", span)} for span in spans]


def test_text_is_escaped_and_seen() -> None:
    found = page(shown())
    found.encode("utf-8")
    assert set(re.findall(r"<(\w+)", found)) == {"div", "style", "span", "label", "input", "a", "bdi", "br"}
    assert "&lt;script&gt;x" in found
    assert "&lt;b&gt;" in found
    assert "by &lt;rows&gt;" in found
    assert "a\\u202eb" in found
    assert "\\ud800" in found
    assert "␀" in found
    assert found.count("</style>") == 1


def test_each_row_has_its_own_scale() -> None:
    found = shades(page(shown()))
    assert found[0] == {"s": 0.25, "a0": 0.5}
    assert found[1] == {"s": 1, "a1": 1}
    assert found[2] == {"s": 0.5, "a0": 1}
    assert found[3] == {"s": -0.25, "a1": -0.25}
    assert found[4] == {}
    assert "blue against" in page(shown())
    assert "blue against" not in page(shown(rows=ROWS[:1]))


def test_templates_and_sinks_are_left_out_of_the_scale_and_told() -> None:
    found = page(shown([True, *[False] * 6], {1: "takes <all>"}))
    assert shades(found)[2]["s"] == 1
    assert shades(found)[1]["s"] == 1, "cut at the full shade"
    assert 'class="w g"' in found
    assert 'class="w k" title="4, attention sink: it takes &lt;all&gt;"' in found
    assert "left out of the scale (12% of all scores)" in found
    assert "<bdi>&lt;/style&gt;</bdi> is an attention sink: it takes &lt;all&gt;" in found
    nothing = page(shown([True] * 7, rows=torch.zeros(2, 7)))
    assert "nan" not in nothing


@pytest.mark.parametrize("count", [1, 2])
def test_one_output_needs_no_pointing(count: int) -> None:
    found = page(shown(rows=ROWS[:count]))
    assert ("Point at" in found) == (count > 1)
    assert found.count(":checked") == (0 if count == 1 else found.count(".o:nth-of-type(1) :checked") * 2)
    assert len(re.findall(r'<div class="[an][^"]*">strongest', found)) == count


def test_the_strongest_sentences_stand_in_a_table() -> None:
    several = [Sentence("one <b>", 0, 0.125), Sentence("two", 1, 0.25), Sentence("three", 3, 0.5), Sentence("four", 5, -1.0)]
    found = page(shown()._replace(sentences=several))
    table = found[found.index("Sentences, and") :]
    assert re.findall(r'<div>(\d+)% <a href="#\w+w(\d)"><bdi>([^<]*)<', table) == [
        ("50", "3", "three"),
        ("25", "1", "two"),
        ("12", "0", "one &lt;b&gt;"),
    ]
    assert "Sentences" not in page(shown()._replace(sentences=several[:2]))
    assert "Sentences" not in page(shown()._replace(sentences=[Sentence("x", 0, 0.0)] * 3))
