"""A control that reads nothing: people put the object in the middle of a photograph."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from attnchain_evals.bench.image_control import ImageControl

DEVIATION: Final = 0.25  # of the image's sides


@final
class CentrePrior(ImageControl):
    """A Gaussian in the middle of the image: exp(−((x − ½)² + (y − ½)²) / 2σ²) at the centre (x, y) of each patch.

    x and y go from 0 to 1 over the image. σ is a quarter of a side.

    Args:
        grid: (rows, columns) of patches.
    """

    def cells(self, images: Tensor) -> Tensor:
        rows, columns = (
            torch.exp(
                -(((torch.arange(n, dtype=images.dtype, device=images.device) + 0.5) / n - 0.5) ** 2) / (2 * DEVIATION**2)
            )
            for n in self.grid
        )
        return (rows[:, None] * columns).expand(len(images), -1, -1).contiguous()
