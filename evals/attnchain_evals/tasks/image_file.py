"""The image, or the mask, in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attnchain_interp import AttentionError
from attnchain_interp.capture import rgb_image

MOST_PIXELS: Final = 178_000_000
MOST_ELONGATED: Final = 200


def open_image(path: str | Path) -> Any:
    """Reads the image of a file, in RGB, as a viewer shows it. See `attnchain_interp.capture.rgb_image`.

    Raises:
        AttentionError: there is no such file, or the file is not an image, is cut off, has several frames, or holds numbers
            of which none is known to be white; or it has more than `MOST_PIXELS` pixels, or is longer than `MOST_ELONGATED`
            times its short side.
    """
    return _read(path, rgb_image)


def open_mask(path: str | Path) -> Any:
    """Reads the mask of a file, like an image, but not over white: a mask that is transparent somewhere is refused."""
    return _read(path, _opaque)


def _opaque(image: Any) -> Any:
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        raise AttentionError(
            "the mask is transparent in places, so it is not known what is white there.",
            "Save it without transparency, white on the object and black elsewhere.",
        )
    return rgb_image(image)


def _check_size(width: int, height: int) -> None:
    """Refuses an image that would fill the memory: as it is, or once its short side has the size that a model takes."""
    if width * height > MOST_PIXELS or max(width, height) > MOST_ELONGATED * min(width, height):
        raise AttentionError(
            f"the image has {width} × {height} pixels; {MOST_PIXELS // 10**6} million are allowed, and a long side of at most"
            f" {MOST_ELONGATED} short ones.",
            "Scale or crop it first.",
        )


def _read(path: str | Path, convert: Callable[[Any], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            _check_size(*image.size)
            return convert(image)
    except FileNotFoundError:
        raise AttentionError(f"there is no file {path}.", "Pass the path of an image file.") from None
    except AttentionError as error:
        raise AttentionError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise AttentionError(
            f"{path} is not a readable image ({error}).", "Replace the file by a PNG, a JPEG or the like."
        ) from error
