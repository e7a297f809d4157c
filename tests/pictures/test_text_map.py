"""Output tokens × words in lines: each word above its own shares, nothing cut, no mark of bytes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.attribution.text.spelling import Spelling

PIECES = ["<s>", "The", " cat", "s", " sat.", "\n\nOn", " it"]
TEMPLATE = [True, *[False] * 6]


def result(
    rows: torch.Tensor, pieces: list[str] = PIECES, template: list[bool] = TEMPLATE, sinks: dict[int, str] | None = None
) -> ac.TextAttributionResult:
    outputs = [" yes", "\n"][: len(rows)]
    return ac.TextAttributionResult(
        input_tokens=["Ġ" + piece for piece in pieces],
        output_tokens=outputs,
        token_attr=rows,
        policy="planted",
        sinks=sinks,
        spelling=Spelling(pieces, template),
        output_spelling=Spelling(outputs, [False] * len(outputs)),
    )


def cells(figure: Figure) -> PolyCollection:
    (found,) = figure.axes[0].collections
    assert isinstance(found, PolyCollection)
    return found


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


ROWS = torch.tensor([[9.0, 1, 2, 1, 0, 0, 4], [0.0, 0, 0, 0, 3, 1, 0]])


def test_no_token_turns_or_hides_the_others() -> None:
    """Directional marks, control characters and lone surrogates are drawn as escapes and pictures."""
    pieces = ["<s>", "\u202eabc", " b\x07", " \ud800", " d\x85e"]
    figure = pictures.show_text(result(torch.ones(1, 5), pieces, [True, *[False] * 4]), title="of \u202e")
    assert texts(figure)[:4] == ["<s>", "\\u202eabc", "b␇", "\\ud800"]
    assert figure.get_suptitle() == "of \\u202e"
    figure.savefig(BytesIO())


def test_words_stand_above_their_shares_of_the_rows() -> None:
    figure = pictures.show_text(result(ROWS))
    assert texts(figure) == ["<s>", "The", "cats", "sat.", "On", "it", *["yes", "↵"] * 2]
    shares = np.array([[1, 0], [3, 0], [0, 3], [0, 1], [4, 0]]) / [8, 4]
    assert np.allclose(np.asarray(cells(figure).get_array()), shares.ravel())
    assert figure.axes[1].get_ylabel() == "share of the row"
    words = {text.get_text(): text.get_position() for text in figure.axes[0].texts[:6]}
    assert words["On"][0] == words["<s>"][0] == 0
    assert words["On"][1] > words["cats"][1] == words["The"][1]
    for path, word in zip(cells(figure).get_paths()[::2], ("The", "cats", "sat.", "On", "it"), strict=True):
        corner, _, opposite, *_ = np.asarray(path.vertices)
        assert corner[0] == words[word][0]
        assert opposite[0] - corner[0] == pytest.approx(len(word) * 0.602 * 7 / 72)


def test_sinks_and_a_few_great_shares_are_left_out_of_the_scale_and_named() -> None:
    figure = pictures.show_text(result(ROWS, sinks={6: "takes <all>"}))
    assert cells(figure).norm.vmax == 0.75
    assert "attention sink: it takes <all>" in figure.get_supxlabel()
    many = torch.full((1, 300), 1.0)
    many[0, 5] = 100
    figure = pictures.show_text(result(many, [f" w{k}" for k in range(300)], [False] * 300))
    assert figure.axes[1].get_ylabel() == "share of the row,\nup to the 99.5% quantile"
    assert cells(figure).norm.vmax == pytest.approx(1 / 399)
    assert figure.get_figwidth() * 150 <= 1600
    figure.draw_without_rendering()
    box = figure.bbox
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0
        assert extent.x1 <= box.x1
        assert box.y0 <= extent.y0
        assert extent.y1 <= box.y1


def test_scores_with_a_sign_and_bad_calls() -> None:
    figure = pictures.show_text(result(-ROWS[:1]))
    assert (cells(figure).norm.vmin, cells(figure).norm.vmax) == (-0.5, 0.5)
    with pytest.raises(ac.AttentionError, match="(?s)result is of type Tensor.*attribute_text"):
        pictures.show_text(ROWS)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="width"):
        pictures.show_text(result(ROWS), width=3)


def test_the_label_of_the_colour_bar_fits_beside_one_line() -> None:
    figure = pictures.show_text(result(torch.ones(1, 3), ["a", " b", " c"], [False] * 3))
    figure.draw_without_rendering()
    label = figure.axes[1].yaxis.label.get_window_extent()
    assert label.y0 >= 0
    assert label.y1 <= figure.bbox.y1


def test_sentences_stand_on_lines_of_their_own_width() -> None:
    long = "A sentence of many words " * 12
    sentences = ["It rained.\n\n", "Two\n\nlines? ", long]
    figure = pictures.show_text(result(torch.tensor([[1.0, 2, 3]]), sentences, [False] * 3), width=60)
    shown = texts(figure)[:3]
    assert shown[:2] == ["It rained.", "Two lines?"]
    assert shown[2].endswith(" …")
    assert len(shown[2]) <= 60


def test_shares_begin_at_zero_and_the_note_says_what_is_left_out() -> None:
    own = torch.tensor([[0.0, 0, 6]])
    found = result(torch.tensor([[3.0, 4, 9]]), ["a", " b", " c"], [False] * 3)
    found.own = own
    figure = pictures.show_text(found)
    assert cells(figure).norm.vmin == 0
    assert "Left out: what the position that predicts gives itself (38% of all scores)." in figure.get_supxlabel().replace(
        "\n", " "
    )


def test_a_prompt_without_a_word_is_refused() -> None:
    for pieces in ([" ", "\n"], ["", ""]):
        with pytest.raises(ac.AttentionError, match="white space alone"):
            pictures.show_text(result(torch.ones(1, 2), pieces, [False, False]))


def test_a_picture_that_no_page_holds_is_refused() -> None:
    pieces = [f" word{k}" for k in range(2000)]
    long = ac.TextAttributionResult(
        input_tokens=pieces, output_tokens=["yes"] * 40, token_attr=torch.ones(40, 2000), policy="planted"
    )
    with pytest.raises(ac.AttentionError, match="(?s)2,?000 words and 40 output tokens fill 8 × .* at width=110.*write_html"):
        pictures.show_text(long)
    with pytest.raises(ac.AttentionError, match=r"fill 5\d\d × "):
        pictures.show_text(long, width=9000)
