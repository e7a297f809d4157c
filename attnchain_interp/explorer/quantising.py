"""Maps as small whole numbers: square roots on a scale of each row's own, since attention is heavy-tailed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


def quantise(maps: Floats, levels: int) -> Codes:
    """round(levels · √(p / greatest of its row)), of probabilities (…, row, state)."""
    greatest = maps.max(-1, keepdims=True)
    return np.rint(levels * np.sqrt(maps / np.where(greatest > 0, greatest, 1))).astype(np.uint8)


def dequantise(codes: NDArray[Any]) -> Floats:
    """The probabilities: squares of the codes, each row divided by its sum, so that its scale and the levels cancel.

    >>> dequantise(quantise(np.array([[0.25, 0.75, 0.0]], dtype=np.float32), 255)).round(2)
    array([[0.25, 0.75, 0.  ]], dtype=float32)
    """
    squares = codes.astype(np.float64) ** 2
    return (squares / squares.sum(-1, keepdims=True)).astype(np.float32)


def largest(maps: Floats, count: int) -> tuple[NDArray[np.uint16], Floats, Floats]:
    """The places and values (…, row, count) of the largest entries of each row, by place, and their sum (…, row)."""
    places = np.argpartition(-maps, count - 1, axis=-1)[..., :count]
    places.sort(axis=-1)
    values = np.take_along_axis(maps, places, axis=-1)
    return places.astype(np.uint16), values, values.sum(-1, dtype=np.float32)


def spread(places: NDArray[np.uint16], codes: Codes, kept: Floats, states: int) -> Floats:
    """The maps (…, row, state) of their largest entries; what these lack of one is spread evenly over the other states."""
    count = places.shape[-1]
    rest = ((1 - kept).clip(0) / max(states - count, 1))[..., None]
    maps = np.broadcast_to(rest, (*kept.shape, states)).astype(np.float32)
    np.put_along_axis(maps, places.astype(np.int64), dequantise(codes) * kept[..., None], axis=-1)
    return maps
