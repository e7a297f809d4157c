"""Pictures as their viewers see them: upright, in eight bits for red, green and blue, over white."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from attnchain_interp.errors import AttentionError

_MOVING: Final = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # other formats hold small copies of the picture behind it


def rgb_image(image: Any) -> Any:
    """Returns a PIL image in the mode RGB, as a viewer shows it.

    - The orientation of its EXIF data is applied.
    - Sixteen bits are scaled to eight: 65,535 is white. One bit, palettes, greys and CMYK are converted.
    - Transparent places are laid over white.

    Profiles of colours are not applied: the numbers are taken as sRGB, as preprocessings of models take them.

    Raises:
        AttentionError: several frames or pages; 32 bits per pixel or floating point, whose white is not known; a mode without
            a conversion. Pillow's own errors where the data of a file are broken.

    >>> from PIL import Image
    >>> rgb_image(Image.new("LA", (2, 1), (0, 0))).getpixel((0, 0))  # black, but transparent
    (255, 255, 255)
    """
    from PIL import Image, ImageOps

    frames, deep = getattr(image, "n_frames", 1), image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits in 32
    if frames > 1 and image.format in _MOVING:
        raise AttentionError(
            f"the image is a {image.format} of {frames} frames or pages, of which a model sees one.",
            "Save the frame that you mean as a file of its own.",
        )
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or deep:
        image = _of_eight_bits(image)
    if image.mode in ("F", "I"):
        raise AttentionError(
            f"the image holds {'floating-point' if image.mode == 'F' else '32-bit'} numbers (mode {image.mode!r}), of which"
            " none is known to be white.",
            "Scale it to 0 … 255 and save it with 8 bits.",
        )
    try:
        if image.has_transparency_data:
            clear = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        return image.convert("RGB")
    except ValueError as error:
        raise AttentionError(
            f"an image of mode {image.mode!r} has no conversion to RGB ({error}).", "Save it as an RGB image."
        ) from error


def _of_eight_bits(image: Any) -> Any:
    """A grey image of 16 bits in 8 bits, transparent where it is told to be."""
    from PIL import Image

    levels = np.asarray(image)
    grey = Image.fromarray(np.round(levels / 257).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey
