"""Pictures of every mode: upright, in eight bits, over white; the expected pixels are written by hand."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnchain_interp import AttentionError
from attnchain_interp.capture import rgb_image

RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP // 2], -1)
GREY = np.repeat(RAMP[..., None], 3, -1)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    """The image as it comes back from a file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def pixels(image: Image.Image) -> np.ndarray:
    shown = rgb_image(image)
    assert shown.mode == "RGB"
    return np.asarray(shown)


def exif(orientation: int) -> Any:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),  # the pixels in the file, of which a viewer shows COLOURS
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (4, COLOURS[::-1]),
        (5, COLOURS.swapaxes(0, 1)),
        (6, np.rot90(COLOURS)),
        (7, np.rot90(COLOURS, 2).swapaxes(0, 1)),
        (8, np.rot90(COLOURS, -1)),
    ],
)
def test_an_orientation_is_applied_once(kind: str, orientation: int, stored: np.ndarray) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    file = saved(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif(orientation), **lossless)
    assert np.array_equal(pixels(file), COLOURS)
    assert np.array_equal(pixels(rgb_image(file)), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    levels = RAMP.astype(np.uint16) * 257
    assert np.array_equal(pixels(saved(Image.fromarray(levels), kind)), GREY)
    assert np.array_equal(pixels(saved(Image.fromarray(levels.astype(">u2")), "TIFF")), GREY)
    between = Image.fromarray(np.array([[128, 129, 32896]], dtype=np.uint16))
    assert pixels(saved(between, kind))[0, :, 0].tolist() == [0, 1, 128]
    wide = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))  # as before Pillow 11
    wide.format = "PNG"
    assert pixels(wide)[0, :, 0].tolist() == [0, 255]


def test_transparent_places_are_white() -> None:
    black = Image.new("L", (32, 8))
    black.putalpha(Image.fromarray(RAMP))
    assert np.array_equal(pixels(saved(black)), 255 - GREY)
    assert np.array_equal(pixels(saved(black.convert("RGBA"))), 255 - GREY)
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert pixels(saved(palette))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    for kind in ("PNG", "GIF"):
        assert pixels(saved(palette, kind, transparency=1))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert pixels(saved(palette, transparency=bytes([255, 0])))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert pixels(saved(Image.fromarray(RAMP), transparency=0))[0, :2].tolist() == [[255] * 3, [1] * 3]
    assert pixels(saved(Image.fromarray(COLOURS), transparency=(0, 255, 0)))[0, :2].tolist() == [[255] * 3, [1, 254, 0]]
    deep = Image.fromarray(np.array([[0, 257]], dtype=np.uint16))
    assert pixels(saved(deep, transparency=0))[0].tolist() == [[255] * 3, [1] * 3]
    assert pixels(saved(Image.new("1", (2, 2)), transparency=0)).min() == 255


def test_other_modes() -> None:
    assert np.array_equal(pixels(saved(Image.fromarray(RAMP))), GREY)
    assert np.array_equal(pixels(saved(Image.fromarray(RAMP > 127))), np.where(GREY > 127, 255, 0))
    assert np.array_equal(pixels(saved(Image.fromarray(COLOURS).convert("CMYK"), "TIFF")), COLOURS)
    assert np.array_equal(pixels(saved(Image.fromarray(COLOURS), "TIFF")), COLOURS)


def test_what_is_refused_says_why() -> None:
    for number, text in ((np.int32, "32-bit"), (np.float32, "floating-point")):
        with pytest.raises(AttentionError, match=rf"(?s)holds {text} numbers.*0 … 255"):
            rgb_image(saved(Image.fromarray(RAMP.astype(number)), "TIFF"))
    frames = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        with pytest.raises(AttentionError, match=rf"(?s){kind} of 2 frames.*Save the frame"):
            rgb_image(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    copies = saved(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=100)  # a photo and its small copy
    assert np.abs(pixels(copies).astype(int) - COLOURS).mean() < 10
