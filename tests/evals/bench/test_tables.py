"""Tables of a report: text that cannot break them, the best in bold, NaN counted."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from attnchain_evals.bench import tables
from attnchain_evals.bench.tables import inert

from ..bench_tasks import made

RESULT = made({"a": [1.0, 2.0, 3.0, 4.0], "b|": [2.0, 2.0, 2.0, 5.0], "<c>": [0.0, float("nan"), 9.0, 9.0]})


def test_the_text_of_a_cell_cannot_end_the_cell() -> None:
    assert tables.table(["a", "b|"], [["1.50", "x\ny"], ["<b>", ""]]) == (
        "| a | b\\| |\n|---|---|\n| 1.50 | x y |\n| &lt;b> |  |"
    )


def test_scores_differences_and_ranks() -> None:
    scores, differences, ranks = tables.tables(RESULT.summary()).split("\n\n")
    assert scores.splitlines()[0] == "| method | centre ↓ |"
    assert scores.splitlines()[2].startswith("| a | **2.500 [")
    assert scores.splitlines()[4].endswith("(1 undefined) |")
    assert differences.splitlines()[0] == "| minus a | centre ↓ |"
    assert "wins" in differences.splitlines()[2]
    assert [line.split(" | ")[0] for line in ranks.splitlines()[2:]] == ["| a", "| b\\|", "| &lt;c>"]


def test_a_notebook_shows_the_scores_escaped() -> None:
    html = tables.score_html(RESULT.summary())
    assert "<b>2.500 [" in html
    assert "&lt;c&gt;" in html


def test_text_of_figures_and_settings() -> None:
    nothing = {"value": None, "low": None, "high": None, "p_holm": None}
    assert tables.change(nothing) == "nan [nan, nan]"
    assert tables.change({"value": 0.5, "low": 0.25, "high": 1, "p_holm": 0.01}) == "0.500 [0.250, 1.000]*"
    assert [tables.written(value) for value in ("mean", True, 3, None)] == ["mean", "yes", "3", "None"]
    assert [tables.percent(share) for share in (None, 0.5)] == ["nan", "50%"]


@pytest.mark.parametrize(
    "name",
    [
        "![x](http://127.0.0.1:1/m)",
        "[x](javascript:alert(1))",
        "[x][y]",
        "<script>m</script>",
        "<https://x.org>",
        "www.x.org",
        "@somebody",
        "a\n\n# title",
        "a\r| b |",
        "&lt;img&gt;",
        "\x1b]0;title",
    ],
)
def test_a_name_stays_text_in_markdown(name: str) -> None:
    shown = inert(name)
    found = MarkdownIt("commonmark").enable("table").parse(f"| a |\n|---|\n| {shown} |\n")
    kinds = {child.type for token in found for child in token.children or []}
    assert kinds <= {"text", "text_special"}
    said = "".join(child.content for token in found for child in token.children or [])
    assert said.split() == [
        "a" + " ".join(name.replace("\x1b", " ").split()).split()[0],
        *name.replace("\x1b", " ").split()[1:],
    ]
    assert "://" not in shown
    assert "www." not in shown
    assert len(shown.splitlines()) == 1
