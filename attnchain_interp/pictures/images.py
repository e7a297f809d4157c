"""Images for display: without their normalisation, channels last, in [0, 1]."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, alpha_composite, new

from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.scale import finite

_COLOURS = ("RGB", "L", "1", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of PIL
_STRETCHED: Final = 1.2  # how much longer a side of a patch is than the other
_NAMES = (("mean", "std"), ("image_mean", "image_std"))
_WAYS = "(mean, std), a timm model or its data config, an image processor of transformers, or a Normalize of torchvision"


def displayable(image: Any, normalization: Any = None) -> NDArray[np.float64]:
    """Returns one image as (height, width, 3) in [0, 1].

    Bytes are divided by 255. With a normalisation, other numbers are image · std + mean, clipped to [0, 1]. Without one, an
    image in [0, 1] is unchanged, and an image in another range is stretched from its least to its greatest value.

    Args:
        image: (channel, height, width), (height, width, channel) or (height, width); 1 or 3 channels. Or an image of PIL,
            which is shown as a viewer does, on white.
        normalization: the mean and standard deviation of the model's preprocessing: (mean, std), each a number or one number
            per channel; or an object that holds them: a timm model or its data config, an image processor of transformers, a
            `Normalize` of torchvision.

    Raises:
        AttentionError: another shape, NaN or infinite values, a normalisation without mean and std, or one that does not fit.
    """
    if isinstance(image, Image):
        image = _without_palette(image)
    pixels = finite(image, "image")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise AttentionError(
            f"image has shape {pixels.shape}; pass (channel, height, width) or (height, width, channel), 1 or 3 channels.",
            "Take images[0] from a batch.",
        )
    statistics = None if normalization is None else mean_and_std(normalization, pixels.shape[-1])
    if str(image.dtype if hasattr(image, "dtype") else np.asarray(image).dtype).endswith("uint8"):
        pixels = pixels / 255
    elif statistics is not None:
        mean, std = statistics
        pixels = (pixels * std + mean).clip(0, 1)
    elif pixels.min() < 0 or pixels.max() > 1:
        span = np.ptp(pixels)
        pixels = (pixels - pixels.min()) / (span if span > 0 else 1)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def is_stretched(grid: tuple[int, int], height: int, width: int) -> bool:
    """Returns whether the patches of a grid (rows, columns) over all of an image are not square."""
    rows, columns = grid
    return max(width * rows, height * columns) > _STRETCHED * min(width * rows, height * columns)


def warn_of_photograph(image: Any, grid: tuple[int, int] | None) -> None:
    """Warns the caller's caller of an image of PIL on which patches are not square: perhaps the model read a part of it.

    A tensor or an array is taken for the model's input.
    """
    if isinstance(image, Image) and grid is not None and is_stretched(grid, image.height, image.width):
        warnings.warn(
            f"A grid of {grid[0]} × {grid[1]} is stretched over all of an image of {image.width} × {image.height} pixels. If"
            " the preprocessing cropped the image, the patches are in the wrong places. Pass the part that the model"
            " read, or the model's input, such as pixel_values[0], with its normalization.",
            stacklevel=3,
        )


def _without_palette(image: Image) -> Image:
    """Returns an image whose numbers are colours or greys: not those of a palette, an alpha channel or another space."""
    if image.mode in _COLOURS:
        return image
    if not image.mode.endswith(("A", "a")) and "transparency" not in image.info:
        return image.convert("RGB")
    return alpha_composite(new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def mean_and_std(source: Any, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean and the standard deviation of each channel from `source`."""
    found = source if isinstance(source, tuple | list) else _held(source)
    if found is None or len(found) != 2:
        raise AttentionError(f"normalization is a {type(source).__name__} without mean and std.", f"Pass {_WAYS}.")
    mean, std = (finite(part, f"the {name} of normalization") for part, name in zip(found, ("mean", "std"), strict=True))
    if any(part.shape not in ((), (1,), (channels,)) for part in (mean, std)) or not (std > 0).all():
        raise AttentionError(
            f"normalization has the mean {mean.tolist()} and the std {std.tolist()}; the std must be positive.",
            f"Give a number for each, or {channels} numbers, one per channel.",
        )
    return mean, std


def _held(source: Any) -> tuple[Any, Any] | None:
    for holder in (source, getattr(source, "pretrained_cfg", None)):
        for names in _NAMES:
            mean, std = (holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None) for name in names)
            if mean is not None and std is not None and not callable(mean):
                return mean, std
    return None
