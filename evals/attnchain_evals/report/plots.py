"""Plots as inline SVG: intervals of scores, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from torch import Tensor

from attnchain_evals.metrics.statistics import Score

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8A8A8A")  # Okabe and Ito, and grey
DASHES = ("", "6 3", "2 3")
_ROW, _WIDTH, _LABEL = 20, 460, 190


def interval_plot(scores: Mapping[str, Score]) -> str:
    """A row for each method: the score as a dot, its interval as a line."""
    ends = [end for score in scores.values() for end in (score.low, score.high) if isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    span = (high - low) or 1.0
    height = _ROW * len(scores) + 28

    def x(value: float) -> float:
        return round(_LABEL + 10 + (_WIDTH - _LABEL - 30) * (value - low) / span, 1)

    marks = []
    for k, (name, score) in enumerate(scores.items()):
        y = _ROW * k + 14
        marks.append(f'<text x="{_LABEL}" y="{y + 4}" text-anchor="end">{escape(_short(name))}</text>')
        if isfinite(score.value):
            marks.append(
                f'<g stroke="{COLOURS[4]}" fill="{COLOURS[1]}"><title>{escape(f"{name}: {score}")}</title>'
                f'<line x1="{x(score.low)}" x2="{x(score.high)}" y1="{y}" y2="{y}" stroke-width="2"/>'
                f'<circle cx="{x(score.value)}" cy="{y}" r="4"/></g>'
            )
    base = height - 20
    marks += [
        f'<line class="axis" x1="{x(low)}" x2="{x(high)}" y1="{base}" y2="{base}"/>',
        f'<text x="{x(low)}" y="{base + 15}" text-anchor="middle">{low:.3g}</text>',
        f'<text x="{x(high)}" y="{base + 15}" text-anchor="middle">{high:.3g}</text>',
    ]
    return _svg(_WIDTH, height, marks, "scores with 95 % intervals")


def curve_plot(fractions: Sequence[float], means: Mapping[str, Sequence[float]]) -> str:
    """The mean score of the target against the fraction of patches, a line for each method."""
    top, size = 10, 260
    values = [value for curve in means.values() for value in curve if isfinite(value)]
    high = max([*values, 1e-9])
    marks = [
        f'<path class="axis" fill="none" d="M40 {top}V{top + size}H{40 + size}"/>',
        f'<text x="36" y="{top + 8}" text-anchor="end">{high:.2g}</text>',
        f'<text x="36" y="{top + size}" text-anchor="end">0</text>',
        f'<text x="40" y="{top + size + 16}">0</text>',
        f'<text x="{40 + size}" y="{top + size + 16}" text-anchor="end">1</text>',
        f'<text x="{40 + size / 2}" y="{top + size + 16}" text-anchor="middle">fraction of patches</text>',
    ]
    for k, (name, curve) in enumerate(means.items()):
        points = " ".join(
            f"{40 + size * fraction:.1f},{top + size * (1 - value / high):.1f}"
            for fraction, value in zip(fractions, curve, strict=True)
            if isfinite(value)
        )
        style = f'fill="none" stroke="{COLOURS[k % len(COLOURS)]}" stroke-width="2"'
        style += f' stroke-dasharray="{DASHES[k // len(COLOURS) % len(DASHES)]}"'
        y = top + 8 + 17 * k
        marks += [
            f"<g><title>{escape(name)}</title>",
            f'<polyline {style} points="{points}"/>',
            f'<line {style} x1="{size + 60}" x2="{size + 85}" y1="{y}" y2="{y}"/>',
            f'<text x="{size + 92}" y="{y + 4}">{escape(_short(name))}</text></g>',
        ]
    return _svg(size + 270, max(top + size + 24, 17 * len(means) + 20), marks, "mean curves")


def token_plot(words: Sequence[str], scores: Mapping[str, Tensor]) -> str:
    """A row for each method, a square for each token: the higher, the darker, on a scale of its own; NaN is white."""
    marks = [
        f'<text transform="translate({_LABEL + 14 + _ROW * k} 52) rotate(-60)">{escape(_short(word))}</text>'
        for k, word in enumerate(words)
    ]
    for row, (name, found) in enumerate(scores.items()):
        y = 60 + _ROW * row
        defined = [score for score in found.tolist() if isfinite(score)] or [0.0]
        low, high = min(defined), max(defined)
        marks.append(f'<text x="{_LABEL - 6}" y="{y + 14}" text-anchor="end">{escape(_short(name))}</text>')
        for k, score in enumerate(found.tolist()):
            share = (score - low) / ((high - low) or 1.0) if isfinite(score) else 0.0
            marks.append(
                f'<rect x="{_LABEL + _ROW * k}" y="{y}" width="18" height="18" fill="{COLOURS[4]}" fill-opacity="{share:.3f}"'
                f' stroke="{COLOURS[6]}" stroke-width="0.5"><title>{escape(f"{name}, {words[k]}: {score:.4g}")}</title></rect>'
            )
    return _svg(_LABEL + _ROW * len(words) + 30, 64 + _ROW * len(scores), marks, "scores of tokens")


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _svg(width: float, height: float, marks: Sequence[str], label: str) -> str:
    inner = "".join(marks).replace('class="axis"', 'class="axis" stroke="currentColor"')
    plain = 'font-size="12" font-family="sans-serif" fill="currentColor"'  # where no style sheet says otherwise
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" width="{width}" {plain}>{inner}</svg>'
