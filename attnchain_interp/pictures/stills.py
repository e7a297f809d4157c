"""Small still pictures of scores: a heat map over a photograph as pixels, and a shaded text as little HTML."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from itertools import groupby
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from attnchain_interp.reprs import visible
from attnchain_interp.store.label_texts import label_texts

_OVER: Final = 0.6  # how much of the picture the map covers
_SHADES: Final = 8


def shaded(labels: list[str], values: NDArray[Any], sinks: Collection[int]) -> str:
    """Returns HTML of the tokens of a text, in which neighbours of one shade share an element.

    Args:
        labels: the tokens (token,), with the marks of their tokenizer.
        values: (token,), not negative.
        sinks: positions that have no part in the scale.
    """
    others = np.delete(values, list(sinks))
    greatest = max(float(others.max(initial=0)), 1e-12)
    shades = np.rint(_SHADES * (values / greatest).clip(0, 1)).astype(int).tolist()
    parts = []
    for shade, run in groupby(zip(shades, label_texts(labels), strict=True), lambda one: one[0]):
        text = escape(visible("".join(label for _, label in run), but="\n"))
        ink = "#fff" if shade > _SHADES * 0.6 else "#000"
        style = f"background:{to_hex(colormaps['Blues'](shade / _SHADES))};color:{ink}"
        parts.append(f"<span style='{style}'>{text}</span>" if shade else text)
    return "".join(parts)


def overlaid(patches: NDArray[Any], pixels: NDArray[np.float64] | None, side: int) -> NDArray[np.float64]:
    """Returns a heat map over a grey picture: pixels (height, width, 3) from 0 to 1.

    Args:
        patches: values (row, column), not negative.
        pixels: the picture (height, width, 3) from 0 to 1, stretched to the grid; or None.
        side: the longer side of the result, in pixels.
    """
    from PIL import Image

    rows, columns = patches.shape
    scale = side / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    heat = colormaps["magma"](patches / max(float(patches.max()), 1e-12))[..., :3]
    drawn = Image.fromarray((255 * heat).round().astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    if pixels is not None:
        grey = Image.fromarray((255 * pixels).round().astype(np.uint8)).convert("L").convert("RGB").resize(size)
        drawn = Image.blend(grey, drawn, _OVER)
    return np.asarray(drawn) / 255
