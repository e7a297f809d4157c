"""The task of the bundled diffusion model: one handwritten digit over a real texture, with its mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from attnchain_evals.tasks.digit_drawing import Split, column, crops, glyphs, render
from attnchain_interp import AttentionError

SIDE: Final = 32
_BLOCK: Final = 128  # examples drawn together from one seed; an example never depends on who asks for it


class Example(NamedTuple):
    """One example, or a batch of them with a leading axis.

    `image` (1, 32, 32) in [0, 1]; `label` the digit; `mask` (32, 32) true where its ink covers the background by more than
    half.
    """

    image: Tensor
    label: Tensor
    mask: Tensor


class TexturedDigits(Dataset[Example]):
    """Grey images of one light digit, of random size and place, over a texture, with the mask that says where it is.

    Digits, textures and splits are those of `ClutteredDigits`: a scan belongs to one split only. Example i of a split depends
    on the seed and on i alone, not on batch size or order.

    Args:
        split: "train" (1,097 scans), "validation" (300) or "test" (400).
        length: number of examples.
        seed: of everything random.

    Raises:
        AttentionError: a split that does not exist, or a length below one.
    """

    def __init__(self, split: Split = "test", length: int = 512, seed: int = 0) -> None:
        if split not in get_args(Split):
            raise AttentionError(f"split is {split!r}; use one of {', '.join(map(repr, get_args(Split)))}.")
        if length < 1:
            raise AttentionError(f"length is {length}; a data set needs at least one example.")
        self.split: Split = split
        self.length, self.seed = length, seed
        self._glyphs, self._labels = glyphs(split)
        self._cached: tuple[int, Example] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the examples depend on."""
        return {"name": "TexturedDigits", "split": self.split, "length": self.length, "seed": self.seed}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if not -self.length <= index < self.length:
            raise IndexError(f"example {index} of {self.length}")
        index %= self.length
        block, row = divmod(index, _BLOCK)
        if self._cached is None or self._cached[0] != block:
            self._cached = (block, self._draw(block))
        return Example(*(field[row] for field in self._cached[1]))

    def batches(self, batch_size: int) -> Iterator[Example]:
        """Batches of consecutive examples."""
        for start in range(0, self.length, batch_size):
            rows = [self[i] for i in range(start, min(start + batch_size, self.length))]
            yield Example(*(torch.stack(field) for field in zip(*rows, strict=True)))

    def _draw(self, block: int) -> Example:
        rng = np.random.default_rng([self.seed, get_args(Split).index(self.split), block])
        n = _BLOCK
        which = torch.from_numpy(rng.integers(len(self._labels), size=n))
        size = rng.uniform(16, 26, (n, 1))
        centre = size[..., None] / 2 + rng.random((n, 1, 2)) * (SIDE - size[..., None])
        ink = render(rng, self._glyphs[which][:, None], centre, size, SIDE)
        ground = column(rng.uniform(0.2, 0.45, n), 3) + column(rng.uniform(0.03, 0.08, n), 3) * crops(rng, n, SIDE)
        light = column(rng.uniform(0.75, 1.0, n), 3)
        image = ground + ink[:, 0] * (light - ground)
        return Example(image[:, None].clamp_(0, 1), self._labels[which], ink[:, 0] > 0.5)
