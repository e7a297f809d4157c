"""A heat map of output tokens × the words of a prompt, in lines like a text: the words stand above their columns."""

from __future__ import annotations

import unicodedata
from itertools import accumulate
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from attnchain_interp.checks import check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.figures import DIVERGING, PLAIN, CellFigure, write_title
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.pictures.sink_marks import list_sinks
from attnchain_interp.reprs import counted, visible

if TYPE_CHECKING:
    from attnchain_interp.attribution import TextAttributionResult  # loads captum, which loads pyplot

_WORD, _LABEL, _CELL, _TOP, _GAP = 7, 6, 0.1, 0.17, 0.12  # points, points, and inches
_ADVANCE: Final = 0.602 * _WORD / 72  # inches that one character of the word is wide
_MOST: Final = 200  # inches, which readers of PDF show
_LEAST: Final = 1.3  # inches, in which the label of the colour bar has room
_GREY, _SINK, _COLOURS = "#999999", "#D55E00", "Blues"


class _Word(NamedTuple):
    """A word of the prompt, and where it stands: the line, and the column of its first character."""

    number: int
    text: str
    line: int
    column: int


def show_text(result: TextAttributionResult, *, width: int = 110, title: str | None = None) -> Figure:
    """Returns a matplotlib `Figure` of output tokens × words of the prompt. The prompt is broken into lines as a text is.

    Under each word stand its shares of the rows, one for each output token. A row is divided by the sum of the sizes of its
    scores, which are those `elsewhere`. Words of a chat template are grey, have no colours, and are left out of that sum. So
    are attention sinks, which are red and listed under the picture. Where a few shares are far above all others, the colours
    end at a quantile, which the colour bar names. `result.write_html` shows scripts that matplotlib has no font for.

    Args:
        result: of `attribute_text`.
        width: characters of a line. The picture is about `width / 17` inches wide.
        title: above the picture.

    Raises:
        AttentionError: a prompt without a word, a width that is no whole number, or a picture of more than 200 inches.

    >>> from torch import ones
    >>> from attnchain_interp import TextAttributionResult
    >>> result = TextAttributionResult(input_tokens=["a", "b"], output_tokens=["c"], token_attr=ones(1, 2), policy="last")
    >>> [text.get_text() for text in show_text(result).axes[0].texts]
    ['a', 'b', 'c']
    """
    if not hasattr(result, "elsewhere"):
        name = type(result).__name__
        raise AttentionError(
            f"result is of type {name}; it must be a result of attribute_text.", "Pass method.attribute_text(text, …)."
        )
    check_whole_number("width", width, "how many characters a line has", least=10)
    by_word = result.elsewhere().by_word()
    rows = finite(by_word.token_attr, "the scores")
    template, sinks = by_word.spelling.template, by_word.sinks
    kept = [k for k, own in enumerate(template) if not own and k not in sinks]
    totals = np.abs(rows[:, kept]).sum(1, keepdims=True)
    shares = np.divide(rows, totals, out=np.zeros_like(rows), where=totals > 0)
    scale = Scale.robust([shares[:, kept]], from_zero=True)
    words = _laid_out(by_word.spelling.pieces, width)
    if not words:
        raise AttentionError("the prompt is white space alone, so it has no word.", "Show its tokens: plot_token_attr().")
    outputs = [visible(text.replace("\n", "↵").strip()) or "␣" for text in result.output_spelling.pieces]
    beside, columns = 2 + max(map(_cells, outputs)), max(word.column + _cells(word.text) for word in words)
    shown = {word.line for word in words if not template[word.number]}
    tops = [0.0, *accumulate(_TOP + (line in shown) * (_CELL * len(outputs) + _GAP) for line in range(words[-1].line + 1))]
    height = max(tops[-1], _LEAST)
    size = _ADVANCE * (columns + beside) + 0.9, height + 0.2
    if max(size) > _MOST:
        raise AttentionError(
            f"{counted(len(words), 'word')} and {counted(len(outputs), 'output token')} fill {size[0]:.0f} × {size[1]:.0f}"
            f" inches at width={width}; a page of a PDF has at most {_MOST}.",
            'Write result.write_html(path), show sentences (result.grouped("sentence")), or pass a greater width.',
        )
    figure = CellFigure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set(xlim=(-beside * _ADVANCE, columns * _ADVANCE), ylim=(height, 0))
    corners, values = [np.empty((0, 4, 2))], [np.empty(0)]
    for word in words:
        left, top = word.column * _ADVANCE, tops[word.line]
        colour = _GREY if template[word.number] else _SINK if word.number in sinks else None
        axis.text(left, top + _TOP / 2, word.text, size=_WORD, family="monospace", va="center", color=colour, **PLAIN)
        if not template[word.number]:
            right, y = left + _ADVANCE * _cells(word.text), top + _TOP + _CELL * np.arange(len(outputs) + 1)
            ends = np.array([left, right, right, left])
            corners.append(np.stack(np.broadcast_arrays(ends, np.stack([y[:-1], y[:-1], y[1:], y[1:]], 1)), -1))
            values.append(shares[:, word.number])
    for line in sorted(shown):
        for j, text in enumerate(outputs):
            place = tops[line] + _TOP + _CELL * (j + 0.5)
            axis.text(-_ADVANCE, place, text, size=_LABEL, family="monospace", ha="right", va="center", **PLAIN)
    colours = colormaps[DIVERGING if scale.signed else _COLOURS]
    polygons: Any = np.concatenate(corners)  # matplotlib takes an array faster than a list
    drawn = axis.add_collection(
        PolyCollection(polygons, array=np.concatenate(values), cmap=colours, norm=scale.norm, edgecolors="#dddddd", lw=0.3)
    )
    bar = figure.colorbar(drawn, ax=axis, fraction=0.02, pad=0.01, aspect=40, extend=scale.extend(np.concatenate(values)))
    bar.ax.tick_params(labelsize=6)
    bar.set_label("share of the row" + scale.note.replace(", ", ",\n"), fontsize=6, **PLAIN)
    notes = ["Grey: the chat template, left out of the shares."] if any(template) else []
    notes += [result.left_out] if result.left_out else []
    list_sinks(figure, [f"{by_word.input_tokens[k]} {told}" for k, told in sinks.items()], notes)
    write_title(figure, title)
    return figure


def _laid_out(pieces: list[str], width: int) -> list[_Word]:
    """Returns the words with their places. A line ends before a word that is too long for it, and at a line break.

    A unit of several words, such as a sentence, is shortened to a line.
    """
    words, line, column = list[_Word](), 0, 0
    for number, piece in enumerate(pieces):
        text = shorten(piece, width, placeholder=" …") if len(piece.split()) > 1 else piece.strip()
        space = piece[: len(piece) - len(piece.lstrip())]
        if "\n" in space and column:
            line, column = line + 1, 0
        text = visible(text)
        column += bool(space) and bool(column)
        if column and column + _cells(text) > width:
            line, column = line + 1, 0
        if text:
            words.append(_Word(number, text, line, column))
            column += _cells(text)
        if "\n" in piece[max(len(space), len(piece.rstrip())) :]:
            line, column = line + 1, 0
    return words


def _cells(text: str) -> int:
    """Returns how many characters wide a text is. Characters of East Asia are two wide, combining marks none."""
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
