"""PNG files of pixels, by the standard library alone."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The PNG file of pixels (height, width, 3).

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
    """Pixels (height, width, 3) averaged over squares, so that neither side is longer than `side`."""
    step = -(-max(pixels.shape[:2]) // side)
    height, width = (length // step * step for length in pixels.shape[:2])
    return pixels[:height, :width].reshape(height // step, step, width // step, step, 3).mean((1, 3))
