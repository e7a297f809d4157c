"""Images as they are looked at: what normalisation did to them undone, channels last, in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.scale import finite

_NAMES = (("mean", "std"), ("image_mean", "image_std"))
_WAYS = "(mean, std), a timm model or its data config, an image processor of transformers, or a Normalize of torchvision"


def displayable(image: Any, normalization: Any = None) -> NDArray[np.float64]:
    """(height, width, 3) in [0, 1] of one image.

    With a normalisation, image · std + mean, cut off at 0 and 1. Without one, bytes are divided by 255, an image in [0, 1]
    stays as it is, and one in any other range is stretched from its least to its greatest value.

    Args:
        image: (channel, height, width), (height, width, channel) or (height, width); 1 or 3 channels.
        normalization: what the model's preprocessing subtracted and divided by: (mean, std), each a number or one for each
            channel; or what holds them: a timm model or its data config, an image processor of transformers, a `Normalize` of
            torchvision.

    Raises:
        AttentionError: no image, NaN or infinite values, a normalisation in which no mean and std are found or that does not
            fit.
    """
    pixels = finite(image, "image")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise AttentionError(
            f"image has shape {pixels.shape}; one image is (channel, height, width) or (height, width, channel), with 1 or 3"
            " channels. Of a batch, take images[0]."
        )
    if normalization is not None:
        mean, std = mean_and_std(normalization, pixels.shape[-1])
        pixels = (pixels * std + mean).clip(0, 1)
    elif str(image.dtype if hasattr(image, "dtype") else np.asarray(image).dtype).endswith("uint8"):
        pixels = pixels / 255
    elif pixels.min() < 0 or pixels.max() > 1:
        span = np.ptp(pixels)
        pixels = (pixels - pixels.min()) / (span if span > 0 else 1)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def mean_and_std(source: Any, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and standard deviation of each channel that `source` holds.

    Raises:
        AttentionError: there are none, or they are not one for each channel, or the deviation is not positive.
    """
    found = source if isinstance(source, tuple | list) else _held(source)
    if found is None or len(found) != 2:
        raise AttentionError(f"normalization is a {type(source).__name__} in which no mean and std are found; pass {_WAYS}.")
    mean, std = (finite(part, f"the {name} of normalization") for part, name in zip(found, ("mean", "std"), strict=True))
    if any(part.shape not in ((), (1,), (channels,)) for part in (mean, std)) or not (std > 0).all():
        raise AttentionError(
            f"normalization has the mean {mean.tolist()} and the std {std.tolist()}; each must be a number or {channels}, one"
            " for each channel, and the std positive."
        )
    return mean, std


def _held(source: Any) -> tuple[Any, Any] | None:
    for holder in (source, getattr(source, "pretrained_cfg", None)):
        for names in _NAMES:
            mean, std = (holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None) for name in names)
            if mean is not None and std is not None and not callable(mean):
                return mean, std
    return None
