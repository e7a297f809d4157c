"""Datasets that are drawn, not stored: handwritten digits over textures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.reprs import with_settings

Split = Literal["train", "validation", "test"]
E = TypeVar("E", bound=tuple[Any, ...])

_GLYPH_SIZE: Final = 32  # the 8×8 scans are enlarged to this once, smoothly
BLOCK: Final = 128
"""The number of examples that are drawn together from one seed. An example does not depend on who asks for it."""


class DrawnDataset(Dataset[E], Generic[E]):
    """Examples that are drawn in blocks. Example i of a split depends on the seed and on i alone.

    Args:
        split: "train", "validation" or "test".
        length: the number of examples.
        seed: of all randomness.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """The names of further arguments on which the examples depend."""

    def __init__(self, split: Split, length: int, seed: int) -> None:
        check_one_of("split", split, get_args(Split))
        check_whole_number("length", length, "the number of examples")
        self.split: Split = split
        self.length, self.seed = length, seed
        self._cached: tuple[int, E] | None = None

    def __repr__(self) -> str:
        return with_settings(self)

    @property
    def identity(self) -> dict[str, Any]:
        """All on which the examples depend."""
        own = {name: getattr(self, name) for name in ("split", "length", "seed", *self.settings)}
        return {"name": type(self).__name__, **{name: list(v) if isinstance(v, tuple) else v for name, v in own.items()}}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> E:
        if not -self.length <= index < self.length:
            raise IndexError(f"example {index} of {self.length}")
        block, row = divmod(index % self.length, BLOCK)
        if self._cached is None or self._cached[0] != block:
            rng = np.random.default_rng([self.seed, get_args(Split).index(self.split), block])
            self._cached = (block, self.draw(rng))
        drawn = self._cached[1]
        return type(drawn)(*(field[row] for field in drawn))

    def batches(self, batch_size: int) -> Iterator[E]:
        """Yields batches of consecutive examples, all fields with a leading batch axis."""
        check_whole_number("batch_size", batch_size, "the number of examples of a batch")
        for start in range(0, self.length, batch_size):
            rows = [self[i] for i in range(start, min(start + batch_size, self.length))]
            yield type(rows[0])(*(torch.stack(field) for field in zip(*rows, strict=True)))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> E:
        """Draws `BLOCK` examples, all fields with a leading axis."""


@cache
def glyphs(split: Split) -> tuple[Tensor, Tensor]:
    """Returns the enlarged scans of one split, (scan, 32, 32) ink in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    ids = dict(zip(get_args(Split), np.split(order, [1097, 1397]), strict=True))[split]
    scans = torch.from_numpy(digits.images[ids]).float()[:, None] / 16
    large = F.interpolate(scans, size=(_GLYPH_SIZE, _GLYPH_SIZE), mode="bicubic", align_corners=False)[:, 0]
    return ((large - 0.25) * 2).clamp_(0, 1), torch.from_numpy(digits.target[ids])


@cache
def _textures() -> np.ndarray:
    """Returns textures (texture, 256, 256) of mean 0 and standard deviation 1, at two scales."""
    from skimage import data, transform

    sheets = [sheet() / 255 for sheet in (data.brick, data.grass, data.gravel)]
    halves = [transform.downscale_local_mean(sheet, (2, 2)) for sheet in sheets]
    stack = np.stack([sheet[:256, :256] for sheet in sheets] + halves)
    stack -= stack.mean((1, 2), keepdims=True)
    return (stack / stack.std((1, 2), keepdims=True)).astype(np.float32)


def crops(rng: np.random.Generator, n: int, side: int) -> Tensor:
    """Returns squares (n, side, side) of random textures. A whole texture has mean 0 and standard deviation 1."""
    textures = _textures()
    corner = rng.integers(textures.shape[-1] - side, size=(n, 2))
    span = np.arange(side)
    rows, columns = corner[:, :1] + span, corner[:, 1:] + span
    which = rng.integers(len(textures), size=n)
    return torch.from_numpy(textures[which[:, None, None], rows[:, :, None], columns[:, None, :]])


def render(rng: np.random.Generator, scans: Tensor, centre: np.ndarray, size: np.ndarray, side: int) -> Tensor:
    """Returns ink (n, object, side, side): scans (n, object, 32, 32) turned, sheared, stretched and placed on a canvas.

    Args:
        rng: of the deformations.
        scans: of `glyphs`.
        centre: (n, object, 2) as (x, y), in pixels of the canvas.
        size: (n, object), in pixels of the canvas.
        side: of the canvas.
    """
    n, objects = size.shape
    turn = rng.uniform(-0.25, 0.25, (n, objects))
    shear = rng.uniform(-0.2, 0.2, (n, objects))
    stretch = rng.uniform(0.85, 1.15, (n, objects))
    scale = side / size  # canvas coordinates in [-1, 1] → glyph coordinates
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.stack([cos * stretch, sin * stretch, shear * cos - sin, shear * sin + cos], -1).reshape(n, objects, 2, 2)
    linear *= scale[..., None, None]
    offset = -(linear @ (2 * centre / side - 1)[..., None])
    theta = torch.from_numpy(np.concatenate([linear, offset], -1)).float().flatten(0, 1)
    grid = F.affine_grid(theta, [n * objects, 1, side, side], align_corners=False)
    ink = F.grid_sample(scans.reshape(-1, 1, _GLYPH_SIZE, _GLYPH_SIZE), grid, align_corners=False)
    return ink.view(n, objects, side, side)


def column(values: np.ndarray, ndim: int) -> Tensor:
    """Returns values (n,) as (n, 1, …) with `ndim` axes."""
    return torch.from_numpy(values).float().view(-1, *[1] * (ndim - 1))
