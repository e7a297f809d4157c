"""The part of a photograph that a model reads: its preprocessing resizes and crops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.checks import check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.figures import Box
from attnchain_interp.pictures.scale import finite

_LONGEST: Final = 1024  # pixels of the longer side of the images that find the part
_OFF: Final = 0.02  # of the range of colours: how far a ramp may be from straight after resizing


def read_part(preprocess: Callable[[Any], Tensor], width: int, height: int) -> Box | None:
    """Returns the part of an image that a preprocessing keeps, in pixels: (left, top, right, bottom).

    The preprocessing is run on an image whose brightness rises from left to right, and on one where it rises from top to
    bottom: the least and greatest brightness that are left say where it cropped.

    Args:
        preprocess: a PIL image → the model's input (1, channel, height, width).
        width, height: of the image.

    Returns:
        None where the preprocessing does more than resize and crop: it pads, turns or warps the image.

    Raises:
        AttentionError: a preprocessing that is no function or gives another shape; a size that is no whole number.

    >>> from torchvision.transforms.v2.functional import center_crop, pil_to_tensor
    >>> [round(edge) for edge in read_part(lambda image: center_crop(pil_to_tensor(image), [40, 40])[None] / 255, 80, 60)]
    [20, 10, 60, 50]
    """
    from PIL import Image

    if not callable(preprocess):
        cause = f"preprocess is of type {type(preprocess).__name__}; it must be a function of an image of PIL."
        raise AttentionError(cause, "Pass the model's preprocessing, such as lambda image: transform(image)[None].")
    check_whole_number("width", width, "the width of the image in pixels")
    check_whole_number("height", height, "the height of the image in pixels")
    shrunk = min(1.0, _LONGEST / max(width, height))
    size = max(1, round(width * shrunk)), max(1, round(height * shrunk))

    def prepared(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        levels = np.broadcast_to(levels, size[::-1])
        image = Image.fromarray(np.rint(255 * levels).astype(np.uint8)).convert("RGB")
        pixels = finite(preprocess(image), "the preprocessed image")
        if pixels.ndim != 4:
            raise AttentionError(
                f"preprocess gives the shape {pixels.shape}; the input of a model is (1, channel, height, width).",
                "Add the batch: lambda image: preprocess(image)[None].",
            )
        return pixels.mean((0, 1))

    black, white = (prepared(np.full((1, 1), level)) for level in (0.0, 1.0))
    across = np.linspace(0, 1, size[0])[None] if size[0] > 1 else np.full((1, 1), 0.5)
    down = np.linspace(0, 1, size[1])[:, None] if size[1] > 1 else np.full((1, 1), 0.5)
    ends = list[tuple[float, float]]()
    for ramp, axis, length in ((across, 0, size[0]), (down, 1, size[1])):
        levels = (prepared(ramp) - black) / np.where(white == black, 1, white - black)
        profile = levels.mean(axis)
        if length < 3 or len(profile) < 3:
            ends.append((0.0, 1.0))
            continue
        places = np.arange(len(profile))
        inner = slice(len(profile) // 10, len(profile) - len(profile) // 10)  # resizing bends a ramp at its ends
        slope, offset = np.polyfit(places[inner], profile[inner], 1)
        if slope <= 0 or np.abs(levels - np.expand_dims(profile, axis)).max() > _OFF:
            return None
        if np.abs(profile - offset - slope * places).max() > max(_OFF, 2 * slope):
            return None
        first, last = offset - slope / 2, offset + slope * (len(profile) - 0.5)
        edges = ((each * (length - 1) + 0.5) / length for each in (first, last))
        begin, end = (float(np.clip(edge, 0, 1)) for edge in edges)
        ends.append((begin, end))
    (left, right), (top, bottom) = ends
    return left * width, top * height, right * width, bottom * height


def inside(picture: NDArray[np.float64], box: Box) -> Box:
    """Returns the part of a box that lies on an image (height, width, 3)."""
    height, width, _ = picture.shape
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def is_whole(picture: NDArray[np.float64], box: Box) -> bool:
    """Returns whether a box holds an image (height, width, 3), but for a hundredth at each side."""
    height, width, _ = picture.shape
    return all(
        abs(at - edge) <= 0.01 * size + 0.5
        for at, edge, size in zip(inside(picture, box), (0, 0, width, height), (width, height) * 2, strict=True)
    )


def cropped(picture: NDArray[np.float64], box: Box) -> str:
    """Returns a line that says how much of an image (height, width, 3) was read: a box may reach beyond the image."""
    height, width, _ = picture.shape
    left, top, right, bottom = inside(picture, box)
    share = (right - left) * (bottom - top) / (width * height)
    return f"The model read the framed part, {share:.0%} of the image."
