"""Plots of a report as inline SVG by matplotlib. Equal figures give equal text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import count, cycle
from math import isfinite, nan
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from attnchain_evals.metrics.statistics import Score

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8A8A8A")  # Okabe and Ito, and grey
DASHES = ("-", "--", ":")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "attnchain",
    "text.parse_math": False,  # names are text, whatever they hold
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "axes.edgecolor": "#8A8A8A",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#8A8A8A",
    "ytick.color": "#8A8A8A",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.linewidth": 1.6,
}


def interval_plot(scores: Mapping[str, Score]) -> Markup:
    """Draws a row for each method: a dot at the score, a line along its interval."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 0.21 * len(scores) + 0.4))
        axes = figure.subplots()
        axes.set_yticks(range(len(scores)), [_short(name) for name in scores])
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=4)
        for row, score in enumerate(scores.values()):
            ends = [end if isfinite(end) else nan for end in (score.low, score.value, score.high)]
            axes.plot(ends, [row] * 3, "o-", color=COLOURS[4], markersize=4.5, markevery=[1], clip_on=False, gid=f"tip{row}")
        return _inline(figure, "scores with 95 % intervals", [f"{name}: {score}" for name, score in scores.items()])


def curve_plot(fractions: Sequence[float], means: Mapping[str, Sequence[float]]) -> Markup:
    """Draws the mean score of the target against the fraction of features, a line for each method."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2, 3.2))
        axes = figure.subplots()
        looks = zip(cycle(COLOURS), (dash for dash in cycle(DASHES) for _ in COLOURS), count(), strict=False)
        lines = [
            axes.plot(fractions, curve, color=colour, linestyle=dash, clip_on=False, gid=f"tip{k}")[0]
            for curve, (colour, dash, k) in zip(means.values(), looks, strict=False)
        ]
        finite = [value for curve in means.values() for value in curve if isfinite(value)]
        axes.set(xlim=(0, 1), ylim=(min([0.0, *finite]), max([1e-9, *finite])), xlabel="fraction of features")
        legend = axes.legend(lines, map(str, range(len(lines))), loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
        for text, name in zip(legend.get_texts(), means, strict=True):
            text.set_text(_short(name))  # a label that begins with "_" is left out
        return _inline(figure, "mean curves", list(means))


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _inline(figure: Figure, label: str, tips: Sequence[str]) -> Markup:
    """Returns the figure as an `<svg>` element. The artist of gid "tip3" shows `tips[3]` under the pointer."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing, transparent=True, bbox_inches="tight")  # pyright: ignore[reportArgumentType]
    (parts,) = re.findall(r'<svg[^>]*?(width=.*?viewBox="[^"]*").*?</defs>(.*)', text.getvalue(), re.DOTALL)
    head, body = parts
    for k, tip in enumerate(tips):
        body = body.replace(f'<g id="tip{k}">', f"<g><title>{escape(tip)}</title>")
    body = re.sub(r' id="[a-z0-9.]+_\d+"', "", body)  # each figure has the same
    return Markup(f'<svg role="img" aria-label="{label}" {head}>{body}')  # noqa: S704 - matplotlib escapes text
