"""Puts the mask of an image where a model's preprocessing puts its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.capture import rgb_image

SIDE = 256  # of the plain images that reveal size and normalisation of a preprocessing; any size serves


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

        levels = [preprocess(Image.new("RGB", (SIDE, SIDE), (level,) * 3))[0] for level in (0, 255)]
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
        return (self._black + self._range * shares)[None]

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
    if own is not None:
        return own(mask)
    from PIL import Image

    levels = (Image.new("RGB", mask.size, (level,) * 3) for level in (0, 255))
    black, white = (preprocess(level)[0] for level in levels)
    share = (preprocess(mask.convert("L").convert("RGB"))[0] - black) / (white - black)
    return share.mean(0) > 0.5
