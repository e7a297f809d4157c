"""Scores of tokens as HTML: only elements with inline styles, and every token is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.reprs import CONTROL_PICTURES

SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"
_ROOT = 'style="font-family:monospace;line-height:1.9;overflow-x:auto"'
_CELL = "padding:1px 3px;border-radius:3px;white-space:pre-wrap"
_SINK = ";outline:2px dashed #E69F00"


@final
class HTML(str):
    """A string of HTML that shows itself in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def text_html(
    tokens: Sequence[str],
    scores: Any,
    rows: Sequence[str] | None = None,
    signed: bool | None = None,
    sinks: Mapping[int, str] | None = None,
) -> HTML:
    """Returns HTML of the tokens, coloured by their scores, each with its value on hover. A notebook shows the string.

    The HTML has no script and no style sheet, and loads nothing. Text is black or white on its colour, whichever is easier to
    read, so it suits light and dark pages. Control characters are shown by their pictures (a newline as ␊), lone surrogates by
    their escape. The writing direction of a token does not change its neighbours.

    Args:
        tokens: the tokens as text, for example `store.tokens.labels[0]`.
        scores: (token,); or (row, token) for a table, for example output tokens × input tokens.
        rows: names of the rows of a table.
        signed: whether the scale is symmetric about zero (blue, white, red); it goes from zero (white) to blue else. None
            means: if a value is negative.
        sinks: a text about each attention sink, by its position: `TextAttributionResult.sinks`, or `described` of
            `ac.sinks(store)`. These tokens have a dashed outline, and a line below.

    Raises:
        AttentionError: NaN or infinite scores, numbers of tokens, rows and scores that differ, tokens that are not text, or
            sinks at places where there is no token.

    >>> text_html(["a", "<b>"], [1, 0.25]).count("&lt;b&gt;")
    1
    """
    values = finite(scores, "scores")
    wanted = (len(tokens),) if rows is None else (len(rows), len(tokens))
    if values.shape != wanted or not values.size:
        shape = "(token,)" if rows is None else "(row, token)"
        fix = "Pass rows=[…] for a table (row, token)." if rows is None else "Pass one row of scores for each name in rows."
        raise AttentionError(f"scores has shape {values.shape}; it must be {shape} = {wanted}, and not empty.", fix)
    scale = Scale.of([values], signed)
    columns, names = (_texts(texts, what) for texts, what in ((tokens, "tokens"), (rows or (), "rows")))
    told = dict(sinks or {})
    if out := [position for position in told if not (isinstance(position, int) and 0 <= position < len(columns))]:
        raise AttentionError(f"sinks has the positions {out}; there are {len(columns)} tokens.", "Pass result.sinks as it is.")
    styles = [_CELL + (_SINK if k in told else "") for k in range(len(columns))]
    body = _table(columns, styles, names, values, scale) if rows is not None else _line(columns, styles, values, scale)
    below = "".join(
        f'<div style="font-size:smaller">{columns[position]} is an attention sink: it {escape(text)}</div>'
        for position, text in told.items()
    )
    return HTML(f"<div {_ROOT}>{body}{_legend(scale)}{below}</div>")


def _line(tokens: list[str], styles: list[str], values: NDArray[np.float64], scale: Scale) -> str:
    spans = (
        f'<span title="{value:.6g}" style="{_colours(value, scale)};{style}">{token}</span>'
        for token, style, value in zip(tokens, styles, values.tolist(), strict=True)
    )
    return f"<div>{'<wbr>'.join(spans)}</div>"


def _table(tokens: list[str], styles: list[str], rows: list[str], values: NDArray[np.float64], scale: Scale) -> str:
    heads = "".join(
        f'<th scope="col" style="{style};text-align:center">{token}</th>' for token, style in zip(tokens, styles, strict=True)
    )
    lines = [f"<tr><td></td>{heads}</tr>"]
    for name, line in zip(rows, values.tolist(), strict=True):
        cells = "".join(
            f'<td title="{value:.6g}" style="{_colours(value, scale)};{_CELL};text-align:right">{value:.2g}</td>'
            for value in line
        )
        lines.append(f'<tr><th scope="row" style="{_CELL};text-align:right">{name}</th>{cells}</tr>')
    return f'<table style="border-collapse:separate;border-spacing:2px">{"".join(lines)}</table>'


def _legend(scale: Scale) -> str:
    stops = ",".join(_colour(stop, scale) for stop in np.linspace(scale.least, scale.greatest, 9))
    bar = (
        f'<span style="display:inline-block;width:8em;height:0.8em;margin:0 6px;background:linear-gradient(to right,{stops})">'
    )
    return f'<div style="font-size:smaller">{scale.least:.3g}{bar}</span>{scale.greatest:.3g}</div>'


def _texts(texts: Sequence[str], name: str) -> list[str]:
    for k, text in enumerate(texts):
        if not isinstance(text, str):
            raise AttentionError(
                f"{name}[{k}] is a {type(text).__name__}; it must be text.", "Use tokenizer.convert_ids_to_tokens(ids)."
            )
    printable = (text.encode("utf-8", "backslashreplace").decode().translate(CONTROL_PICTURES) for text in texts)
    return [f"<bdi>{escape(text)}</bdi>" for text in printable]


def _colour(value: float, scale: Scale) -> str:
    return to_hex(colormaps[DIVERGING if scale.signed else SEQUENTIAL](float(scale.norm(value))))


def _colours(value: float, scale: Scale) -> str:
    background = _colour(value, scale)
    return f"background:{background};color:{'#000' if luminance(background) > 0.179 else '#fff'}"


def luminance(colour: str) -> float:
    """Returns the relative luminance of "#rrggbb", from 0 (black) to 1 (WCAG 2). Above 0.179, black is easier to read."""
    channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
