"""Puts the mask of an image where a model's preprocessing puts its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.capture import rgb_image

LOW, SPAN = 16, 222  # the levels of a ramp, away from black and white, where resampling is cut off
SIDE = 256  # of the plain images that reveal size and normalisation of a preprocessing; any size serves


def pixels_of(preprocess: Any, image: Any) -> Tensor:
    """Returns the pixels (channel, height, width) that a preprocessing makes of an image.

    Raises:
        AttentionError: the preprocessing returns something else than (1, channel, height, width).
    """
    works = callable(preprocess)
    found = preprocess(image) if works else preprocess
    if not (isinstance(found, Tensor) and found.ndim == 4 and len(found) == 1):
        shape = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise AttentionError(
            f"preprocess {'returns' if works else 'is'} {shape}, not pixels (1, channel, height, width).",
            "Pass what turns a PIL image into the model's input; a transform of one image needs [None] behind it.",
        )
    return found[0]


@final
class WholeImage:
    """A callable that resizes the whole image to the model's size, bilinearly, without cropping, and normalises it.

    It is the preprocessing of the published ImageNet-Segmentation protocol. Size and normalisation are those that the model's
    preprocessing gives a black and a white image.

    Args:
        preprocess: a PIL image → the model's input (1, channel, height, width), affine in the colours.
    """

    def __init__(self, preprocess: Callable[[Any], Tensor]) -> None:
        from PIL import Image

        levels = [pixels_of(preprocess, Image.new("RGB", (SIDE, SIDE), (level,) * 3)) for level in (0, 255)]
        self.size = (levels[0].shape[1], levels[0].shape[2])
        centre = self.size[0] // 2, self.size[1] // 2
        self._black, white = (level[:, centre[0], centre[1], None, None] for level in levels)
        self._range = white - self._black

    def __repr__(self) -> str:
        return f"WholeImage({self.size[0]}×{self.size[1]})"

    def __call__(self, image: Any) -> Tensor:
        from PIL import Image

        small = rgb_image(image).resize(self.size[::-1], Image.Resampling.BILINEAR)
        shares = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
        return self.normalised(shares)[None]

    def normalised(self, shares: Tensor) -> Tensor:
        """Returns pixels (channel, height, width) from 0 to 1 as the model takes them, at any size."""
        return self._black + self._range * shares

    def mask(self, mask: Any) -> Tensor:
        """Returns a mask resized by nearest neighbour: (height, width) bool."""
        from PIL import Image

        small = mask.convert("L").resize(self.size[::-1], Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(small) > 127)


def placed(mask: Any, preprocess: Callable[[Any], Tensor]) -> Tensor:
    """Returns a mask, white on the object, where the preprocessing puts its image: (height, width) bool.

    The `mask` method of the preprocessing is used if it has one. Else the mask is preprocessed like an image, and a pixel lies
    on the object if more than half of it is white. This is nearest neighbour but for pixels of contours that are blended.
    """
    own = getattr(preprocess, "mask", None)
    return own(mask) if own is not None else _white(mask.convert("L"), preprocess) > 0.5


def pixels_seen(size: tuple[int, int], preprocess: Callable[[Any], Tensor]) -> Tensor:
    """Returns which pixel of an image stands at each place of the model's input: its row and column (2, height, width).

    The preprocessing places ramps of grey, two levels a pixel, so a place is right to half a pixel or so. It serves label
    maps, whose numbers cannot be blended: `labels[rows, columns]`.

    Args:
        size: (width, height) of the image.
        preprocess: a PIL image → the model's input (1, channel, height, width), affine in the colours.
    """
    from PIL import Image

    found = []
    for place in np.indices(size[::-1]):
        ramps = (LOW + (2 * place - SPAN * part).clip(0, SPAN) for part in range(2 * int(place.max()) // SPAN + 1))
        levels = [_white(Image.fromarray(np.uint8(ramp)), preprocess) * 255 - LOW for ramp in ramps]
        found.append((torch.stack(levels).sum(0) / 2).round().long().clamp(0, int(place.max())))
    return torch.stack(found)


def _white(mask: Any, preprocess: Callable[[Any], Tensor]) -> Tensor:
    """Returns the share (height, width) of white in a grey image, after preprocessing."""
    from PIL import Image

    levels = (Image.new("RGB", mask.size, (level,) * 3) for level in (0, 255))
    black, white = (pixels_of(preprocess, level) for level in levels)
    share = (pixels_of(preprocess, mask.convert("RGB")) - black) / (white - black)
    return share.mean(0)
