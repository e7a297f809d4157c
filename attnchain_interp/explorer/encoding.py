"""Arrays as the bytes of a page: maps on a few levels, compressed sections, photographs as JPEG."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PACKED: Final = 15  # the greatest code that half a byte holds

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


def triangle(codes: Codes) -> Codes:
    """Returns the codes of a decoder's maps (map, row, state) without the later states: (map, entry), state after state.

    >>> triangle(np.array([[[1, 0], [2, 3]]], dtype=np.uint8))
    array([[1, 2, 3]], dtype=uint8)
    """
    states, rows = np.triu_indices(codes.shape[-1])
    return codes[:, rows, states]


def squared(entries: Codes, states: int) -> Codes:
    """Returns the codes (map, row, state) of which `triangle` left out the zeros."""
    codes = np.zeros((len(entries), states, states), np.uint8)
    columns, rows = np.triu_indices(states)
    codes[:, rows, columns] = entries
    return codes


def packed(codes: Codes) -> Codes:
    """Returns codes up to `PACKED` (…, code), two in a byte, the first in its upper half; an odd number ends with a zero.

    >>> packed(np.array([[1, 2, 3]], dtype=np.uint8))
    array([[18, 48]], dtype=uint8)
    """
    even = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    return (even[..., ::2] << 4 | even[..., 1::2]).astype(np.uint8, copy=False)


def unpacked(pairs: Codes, count: int) -> Codes:
    """Returns the codes (…, code), `count` of them, that `packed` put into bytes."""
    halves = np.stack([pairs >> 4, pairs & 15], -1).astype(np.uint8, copy=False)
    return halves.reshape(*pairs.shape[:-1], -1)[..., :count]


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


def jpeg(pixels: NDArray[np.float64], side: int) -> bytes:
    """Returns the JPEG file of pixels (height, width, 3) from 0 to 1, made smaller where a side is longer than `side`."""
    from PIL import Image

    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(file := io.BytesIO(), "JPEG", quality=85, optimize=True)
    return file.getvalue()


def data_url(file: bytes) -> str:
    """Returns the address that holds a JPEG file."""
    return f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
