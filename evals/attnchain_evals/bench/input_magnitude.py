"""A control that reads the image and no model: how far a patch is from the mean colour."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.bench.image_control import ImageControl


@final
class InputMagnitude(ImageControl):
    """The distance of a patch from the image's mean colour: |x − mean|, averaged over channels and over the patch.

    Args:
        grid: (rows, columns) of patches.
    """

    def cells(self, images: Tensor) -> Tensor:
        distance = (images - images.mean((2, 3), keepdim=True)).abs().mean(1, keepdim=True)
        return F.adaptive_avg_pool2d(distance, self.grid)[:, 0]
