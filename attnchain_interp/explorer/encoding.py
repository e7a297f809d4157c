"""Arrays as the bytes of a page: maps on a few levels, compressed sections, pixels as PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


def quantise(maps: Floats, levels: int) -> Codes:
    """Returns round(levels · √(p / greatest of its row)) for probabilities (…, row, state).

    Attention is heavy-tailed: square roots on a scale for each row keep small probabilities apart.
    """
    greatest = maps.max(-1, keepdims=True)
    return np.rint(levels * np.sqrt(maps / np.where(greatest > 0, greatest, 1))).astype(np.uint8)


def dequantise(codes: NDArray[Any]) -> Floats:
    """Returns the probabilities: squares of the codes, each row divided by its sum. The scale and the levels cancel.

    >>> dequantise(quantise(np.array([[0.25, 0.75, 0.0]], dtype=np.float32), 255)).round(2)
    array([[0.25, 0.75, 0.  ]], dtype=float32)
    """
    squares = codes.astype(np.float64) ** 2
    return (squares / squares.sum(-1, keepdims=True)).astype(np.float32)


def largest(maps: Floats, count: int) -> tuple[NDArray[np.uint16], Floats, Floats]:
    """Returns the places and values (…, row, count) of the largest entries of each row, by place, and their sum (…, row)."""
    places = np.argpartition(-maps, count - 1, axis=-1)[..., :count]
    places.sort(axis=-1)
    values = np.take_along_axis(maps, places, axis=-1)
    return places.astype(np.uint16), values, values.sum(-1, dtype=np.float32)


def spread(places: NDArray[np.uint16], codes: Codes, kept: Floats, states: int) -> Floats:
    """Returns maps (…, row, state) from their largest entries. The rest of each row is spread evenly over the other states."""
    count = places.shape[-1]
    rest = ((1 - kept).clip(0) / max(states - count, 1))[..., None]
    maps = np.broadcast_to(rest, (*kept.shape, states)).astype(np.float32)
    np.put_along_axis(maps, places.astype(np.int64), dequantise(codes) * kept[..., None], axis=-1)
    return maps


def compressed(array: NDArray[Any]) -> bytes:
    """Returns the numbers of an array, compressed by zlib."""
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 6)


def base64_size(sections: Mapping[str, bytes]) -> int:
    """Returns the number of bytes of all sections in base64."""
    return sum(4 * -(-len(data) // 3) for data in sections.values())


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Returns the PNG file of pixels (height, width, 3).

    >>> png(np.zeros((1, 1, 3), dtype=np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width, _ = pixels.shape
    above = np.vstack([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = np.concatenate([np.full((height, 1), 2, np.uint8), (pixels - above).reshape(height, -1)], 1)  # filter 2, Up
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def shrunk(pixels: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Returns pixels (height, width, 3) averaged over squares, so that neither side is longer than `side`."""
    step = -(-max(pixels.shape[:2]) // side)
    height, width = (length // step * step for length in pixels.shape[:2])
    return pixels[:height, :width].reshape(height // step, step, width // step, step, 3).mean((1, 3))
