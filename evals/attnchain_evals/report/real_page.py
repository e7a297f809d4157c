"""The page and the pictures of `attnchain demo --real`: photographs with their objects, and texts with their words shaded."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from attnchain_evals.report.page import TEMPLATES
from attnchain_interp.files import whole, write_text

OBJECT = "the object"
_SHADE = (0.98, 0.62, 0.10)
_QUALITY = 85  # of JPEG: a third of a PNG's size


class ReadPhotograph(NamedTuple):
    """A photograph and what was read on it.

    Attributes:
        name: of its file.
        pixels: (height, width, 3), bytes.
        maps: title → scores (row, column) of its patches. The first outlines the object.
    """

    name: str
    pixels: NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.float64]]


class ShadedText(NamedTuple):
    """A text whose words are shaded.

    Attributes:
        title: above it.
        words: the words, with the space before each.
        shares: of each word, from 0 to 1.
    """

    title: str
    words: Sequence[str]
    shares: Sequence[float]

    @property
    def shaded(self) -> list[tuple[str, str, float, float]]:
        """The space before each word, the word, its share, and its share in units of the greatest."""
        greatest = max(self.shares) or 1
        parts = ((word[: len(word) - len(word.lstrip())], word.lstrip()) for word in self.words)
        return [(*part, share, share / greatest) for part, share in zip(parts, self.shares, strict=True)]


def outlined(photograph: ReadPhotograph) -> NDArray[np.uint8]:
    """Returns the photograph in grey and dark where its first map is below its mean, and as it is elsewhere."""
    scores = next(iter(photograph.maps.values())).astype(np.float32)
    height, width, _ = photograph.pixels.shape
    smooth = np.asarray(Image.fromarray(scores).resize((width, height), Image.Resampling.BICUBIC))
    grey = photograph.pixels.mean(-1, keepdims=True) * 0.3
    return np.where((smooth > scores.mean())[..., None], photograph.pixels, grey).astype(np.uint8)


def photograph_figure(photographs: Sequence[ReadPhotograph]) -> Figure:
    """Draws a row for each photograph: itself, its object, and its maps."""
    titles = ["photograph", OBJECT, *photographs[0].maps]
    heights = [one.pixels.shape[0] / one.pixels.shape[1] for one in photographs]
    figure = Figure(figsize=(2.4 * len(titles), 2.4 * sum(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(photographs), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights})
    for row, one in zip(axes, photographs, strict=True):
        row[0].imshow(one.pixels)
        row[1].imshow(outlined(one))
        for axis, scores in zip(row[2:], one.maps.values(), strict=True):
            axis.imshow(scores, cmap="magma", extent=(0, scores.shape[1], scores.shape[0], 0))
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def segments_figure(photographs: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Draws a row for each title: pictures (height, width, 3) of the photographs, side by side."""
    shapes = [picture.shape for picture in next(iter(photographs.values()))]
    widths = [width / height for height, width, _ in shapes]
    figure = Figure(figsize=(2.4 * sum(widths), 2.4 * len(photographs)), layout="constrained")
    axes = figure.subplots(len(photographs), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
    for row, (title, pictures) in zip(axes, photographs.items(), strict=True):
        row[0].set_ylabel(title, fontsize=9)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure


def text_figure(text: ShadedText, answer: str, columns: int = 92) -> Figure:
    """Draws a text in lines of at most `columns` characters, each word on its shade, with the answer below."""
    lines = _lines(text, columns)
    step = 1 / (len(lines) + 1.6)
    figure = Figure(figsize=(columns * 0.1, 0.27 / step))
    style: dict[str, Any] = {"family": "monospace", "fontsize": 12, "va": "center", "parse_math": False}
    for k, line in enumerate(lines):
        for column, word, shade in line:
            box = {"facecolor": (*_SHADE, shade), "edgecolor": "none", "pad": 1.2}
            figure.text(column / columns, 1 - (k + 0.8) * step, word, bbox=box, **style)
    figure.text(0, 0.5 * step, answer, weight="bold", **style)
    return figure


def _lines(text: ShadedText, columns: int) -> list[list[tuple[int, str, float]]]:
    """The lines of a text: column, word, shade. A paragraph begins a line."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for space, word, _, shade in text.shaded:
        column += 1 if lines[-1] else 0
        if lines[-1] and ("\n" in space or column + len(word) > columns):
            lines.append([])
            column = 0
        lines[-1].append((column, word, shade))
        column += len(word)
    return lines


def write_jpeg(figure: Figure, path: Path) -> Path:
    """Writes a figure as JPEG, whole or not at all, and returns the path."""
    with whole(path) as partial:
        figure.savefig(partial, format="jpeg", dpi=100, bbox_inches="tight", pad_inches=0.08, pil_kwargs={"quality": _QUALITY})
    return path


def write_real_page(path: Path, photographs: Path, segments: Path, **parts: Any) -> Path:
    """Writes the page from the values of its template. It has no script and loads nothing; its JPEG pictures are in it."""
    pictures = {"photographs": _encoded(photographs), "segments": _encoded(segments)}
    write_text(path, TEMPLATES.get_template("real.html").render(**pictures, **parts))
    return path


def _encoded(picture: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"
