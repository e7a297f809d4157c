from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from attnchain_evals.report.real_page import (
    ReadPhotograph,
    ShadedText,
    outlined,
    photograph_figure,
    segments_figure,
    text_figure,
    write_jpeg,
    write_real_page,
)

WHITE = np.full((28, 42, 3), 200, np.uint8)
RIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
TEXT = ShadedText("a title", ["It", " is", "\n\n<b>", " there"], [0.1, 0.0, 0.4, 0.2])


def test_only_the_patches_above_the_mean_keep_their_light() -> None:
    shown = outlined(ReadPhotograph("white", WHITE, {"walk": RIGHT, "other": 1 - RIGHT}))
    assert (shown[:, -7:] == 200).all()
    assert (shown[:, :14] == 60).all()


def test_a_row_for_each_photograph_and_a_column_for_each_map() -> None:
    one = ReadPhotograph("white", WHITE, {"walk": RIGHT, "other": 1 - RIGHT})
    figure = photograph_figure([one, one])
    assert [axis.get_title() for axis in figure.axes] == ["photograph", "the object", "walk", "other", *[""] * 4]


def test_a_row_for_each_reading_and_a_column_for_each_photograph() -> None:
    figure = segments_figure({"photograph": [WHITE, WHITE], "its pieces": [WHITE, WHITE]})
    assert [axis.get_ylabel() for axis in figure.axes] == ["photograph", "", "its pieces", ""]


def test_words_are_shaded_in_units_of_the_greatest() -> None:
    assert TEXT.shaded == [("", "It", 0.1, 0.25), (" ", "is", 0.0, 0.0), ("\n\n", "<b>", 0.4, 1.0), (" ", "there", 0.2, 0.5)]
    assert ShadedText("", ["no", " source"], [0.0, 0.0]).shaded == [("", "no", 0.0, 0.0), (" ", "source", 0.0, 0.0)]
    figure = text_figure(TEXT, "→ an answer", columns=6)
    assert [text.get_text() for text in figure.texts] == ["It", "is", "<b>", "there", "→ an answer"]
    heights = [text.get_position()[1] for text in figure.texts]
    assert heights[0] == heights[1] > heights[2] > heights[3] > heights[4], "a paragraph and a full line begin a line"
    assert [text.get_position()[0] for text in figure.texts[:3]] == [0, 3 / 6, 0]
    assert [text.get_bbox_patch().get_facecolor()[-1] for text in figure.texts[:4]] == [0.25, 0, 1, 0.5]  # type: ignore[union-attr]


def test_the_page_holds_its_picture_and_escapes_texts(tmp_path: Path) -> None:
    picture = write_jpeg(photograph_figure([ReadPhotograph("white", WHITE, {"walk": RIGHT})]), tmp_path / "photographs.jpg")
    with Image.open(picture) as image:
        assert image.format == "JPEG"
    parts = {"vision": "V", "decoder": "D", "passage": TEXT, "answer": "<i>", "word": "there", "continued": "so"}
    parts |= {"sources": [("there", [("<b>", 0.4)])], "prompts": [TEXT], "origin": "from & where"}
    cut = write_jpeg(segments_figure({"photograph": [WHITE, WHITE], "pieces": [WHITE, WHITE]}), tmp_path / "segments.jpg")
    text = write_real_page(tmp_path / "real.html", picture, cut, **parts).read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") == 2
    assert '<span style="background:rgb(250 158 26 / 1.00)" title="40.0 %">&lt;b&gt;</span>' in text
    assert "<b>&lt;i&gt;</b>" in text
    assert "from &amp; where" in text
    assert "<script" not in text
