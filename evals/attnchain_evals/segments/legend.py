"""The legend under an overlay: the colour, the name and the share of the pixels of each segment, and where it was sought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST: Final = 12  # pixels of a letter's height
_SHARE: Final = 40  # the overlay's width in letters, where they are not the least


class Entry(NamedTuple):
    """A line of a legend.

    Attributes:
        colour: red, green and blue, from 0 to 255.
        text: beside it.
    """

    colour: tuple[int, int, int]
    text: str


def with_legend(overlay: NDArray[np.uint8], entries: Sequence[Entry], place: Sequence[float] = ()) -> NDArray[np.uint8]:
    """Returns an overlay (height, width, 3) with a white strip below that has the entries, in as many lines as they need.

    A picture that is narrower than the longest entry gets white at its right.

    Args:
        place: (x, y) or (left, top, right, bottom) in pixels, which is marked on the overlay.
    """
    from PIL import Image, ImageDraw, ImageFont

    size = max(_LEAST, overlay.shape[1] // _SHARE)
    font = ImageFont.load_default(size)
    lengths = [2 * size + round(font.getlength(entry.text)) + size for entry in entries]
    width = max(overlay.shape[1], *lengths)
    places, x, y = [], 0, 0
    for length in lengths:
        if x + length > width:
            x, y = 0, y + 2 * size
        places.append((x, y))
        x += length
    canvas = Image.new("RGB", (width, overlay.shape[0] + y + 2 * size), "white")
    canvas.paste(Image.fromarray(overlay), (0, 0))
    draw = ImageDraw.Draw(canvas)
    if place:
        _mark(draw, place, size // 2)
    for (x, y), entry in zip(places, entries, strict=True):
        left, top = x + size // 2, overlay.shape[0] + y + size // 2
        draw.rectangle((left, top, left + size, top + size), entry.colour, "black")
        draw.text((left + 1.5 * size, top + size / 2), entry.text, "black", font, "lm")
    return np.asarray(canvas)


def _mark(draw: Any, place: Sequence[float], radius: int) -> None:
    """Draws a point as a disc, or a box as a frame: black within white, which is seen on any photograph."""
    if len(place) == 2:
        disc = [edge + by * radius for by in (-1, 1) for edge in place]
        draw.ellipse(disc, "black", "white", max(1, radius // 3))
        return
    for width, colour in ((5, "white"), (3, "black")):
        draw.line([place[k] for k in (0, 1, 2, 1, 2, 3, 0, 3, 0, 1)], colour, width)
