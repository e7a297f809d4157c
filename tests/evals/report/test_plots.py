"""Plots as inline SVG: the same text for the same figures, and no name that is markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from attnchain_evals.metrics.statistics import Score
from attnchain_evals.report.plots import curve_plot, interval_plot

NAN = float("nan")
SCORES = {"<b>$x$": Score(0.5, 0.25, 0.75), "_none": Score(NAN, NAN, NAN), "n" * 40: Score(1.0, 1.0, 1.0)}
CURVES = {"<b>$x$": [1.0, 0.5, NAN], "_none": [0.0, 0.25, 1.0]}


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(str(svg).replace("<svg", '<svg xmlns:xlink="x"', 1))  # noqa: S314 - our own


def test_equal_figures_give_equal_text() -> None:
    assert interval_plot(SCORES) == interval_plot(SCORES)
    assert curve_plot([0, 0.5, 1], CURVES) == curve_plot([0, 0.5, 1], CURVES)


def test_every_score_is_named_and_said_under_the_pointer() -> None:
    root = parsed(interval_plot(SCORES))
    texts = [text.text for text in root.iter("text")]
    assert {"<b>$x$", "_none", "n" * 25 + "…"} <= set(texts)
    titles = [title.text for title in root.iter("title")]
    assert "<b>$x$: 0.500 [0.250, 0.750]" in titles
    assert f"{'n' * 40}: 1.000 [1.000, 1.000]" in titles


def test_every_curve_is_in_the_legend() -> None:
    root = parsed(curve_plot([0, 0.5, 1], CURVES))
    assert {"<b>$x$", "_none", "fraction of features"} <= {text.text for text in root.iter("text")}
    assert [title.text for title in root.iter("title")] == list(CURVES)


def test_a_plot_requests_nothing_and_repeats_no_id_of_another() -> None:
    svg = str(interval_plot(SCORES))
    assert not re.search(r"https?:|url\(|<style|<metadata", svg)
    assert all(re.fullmatch(r"m[0-9a-f]+", found) for found in re.findall(r' id="([^"]*)"', svg))
