"""The task of the bundled diffusion model: one handwritten digit over a real texture, with its mask."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.tasks.drawn_dataset import BLOCK, DrawnDataset, Split, column, crops, glyphs, render

SIDE: Final = 32


class Example(NamedTuple):
    """One example, or a batch of them with a leading axis.

    `image` (1, 32, 32) in [0, 1]; `label` the digit; `mask` (32, 32) true where its ink covers the background by more than
    half.
    """

    image: Tensor
    label: Tensor
    mask: Tensor


class TexturedDigits(DrawnDataset[Example]):
    """Grey images of one light digit, of random size and place, over a texture, with the mask of its place.

    Digits, textures and splits are those of `ClutteredDigits`: a scan belongs to one split only. Example i of a split depends
    on the seed and on i alone, not on batch size or order.

    Args:
        split, length, seed: see `ClutteredDigits`.
    """

    def __init__(self, split: Split = "test", length: int = 512, seed: int = 0) -> None:
        super().__init__(split, length, seed)
        self._glyphs, self._labels = glyphs(split)

    def draw(self, rng: np.random.Generator) -> Example:
        n = BLOCK
        which = torch.from_numpy(rng.integers(len(self._labels), size=n))
        size = rng.uniform(16, 26, (n, 1))
        centre = size[..., None] / 2 + rng.random((n, 1, 2)) * (SIDE - size[..., None])
        ink = render(rng, self._glyphs[which][:, None], centre, size, SIDE)
        ground = column(rng.uniform(0.2, 0.45, n), 3) + column(rng.uniform(0.03, 0.08, n), 3) * crops(rng, n, SIDE)
        light = column(rng.uniform(0.75, 1.0, n), 3)
        image = ground + ink[:, 0] * (light - ground)
        return Example(image[:, None].clamp_(0, 1), self._labels[which], ink[:, 0] > 0.5)
