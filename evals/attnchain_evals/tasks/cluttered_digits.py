"""The bundled task: handwritten digits over real textures, with a decoy digit, fragments and ground-truth masks."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.tasks.drawn_dataset import BLOCK, DrawnDataset, Split, column, crops, glyphs, render
from attnchain_interp.checks import check_probability
from attnchain_interp.reprs import with_fields

IMAGE_SIZE: Final = 56
FRAGMENTS: Final = 5
_CANDIDATES: Final = 24  # places tried for each object
_OBJECTS: Final = 2 + FRAGMENTS  # deciding digit, decoy, fragments


class Example(NamedTuple):
    """One example, or a batch of them with a leading axis.

    `image` (3, 56, 56) in [0, 1]; `label` the deciding digit; `mask` and `decoy` (56, 56) true where the ink of the
    deciding digit and of the decoy covers the background by more than half.
    """

    image: Tensor
    label: Tensor
    mask: Tensor
    decoy: Tensor

    def __repr__(self) -> str:
        return with_fields(self)


class ClutteredDigits(DrawnDataset[Example]):
    """Images whose label is the digit that is *lighter* than its surroundings, with masks of its place.

    Each image holds a texture (scikit-image's brick, grass or gravel), one light digit that decides the label, one
    dark decoy digit that does not, and five light or dark fragments of digits, as strong as whole ones. Digits come
    from scikit-learn's `load_digits`; a scan belongs to one split only. Example i of a split depends on the seed and on
    i alone, not on batch size or order.

    Args:
        split: "train" (1,097 scans), "validation" (300) or "test" (400).
        length: the number of examples.
        seed: of all randomness.
        difficulty: from 0 (centred on a flat background, strong contrast, no decoy, no fragments) to 1 (the task itself).
            The training curriculum goes from 0 to 1.

    Raises:
        AttentionError: an unknown split, a length below one, or a difficulty outside [0, 1].
    """

    settings = ("difficulty",)

    def __init__(self, split: Split = "test", length: int = 512, *, seed: int = 0, difficulty: float = 1.0) -> None:
        super().__init__(split, length, seed)
        check_probability("difficulty", difficulty, "0 for plain images, 1 for the task itself", usual=1.0)
        self.difficulty = difficulty
        self._glyphs, self._labels = glyphs(split)

    def draw(self, rng: np.random.Generator) -> Example:
        n, d = BLOCK, self.difficulty

        which = rng.integers(len(self._labels), size=(n, _OBJECTS))
        size = np.concatenate([rng.uniform(18, 25, (n, 2)), rng.uniform(14, 22, (n, FRAGMENTS))], 1)
        reach = np.concatenate([size[:, :2] / 2, size[:, 2:] / 4], 1)  # half of what the object covers
        present = np.ones((n, _OBJECTS), bool)
        present[:, 1] = rng.random(n) < 2 * d - 0.6
        present[:, 2:] = np.arange(FRAGMENTS) < round((1.5 * d - 0.5) * FRAGMENTS)
        centre = _places(rng, reach)
        spread = min(1.0, 2 * d)
        centre[:, 0] = IMAGE_SIZE / 2 + spread * (centre[:, 0] - IMAGE_SIZE / 2)
        ink = render(rng, self._glyphs[torch.from_numpy(which)], centre, size, IMAGE_SIZE)
        ink[:, 2:] *= torch.from_numpy(_windows(centre[:, 2:], reach[:, 2:]))
        ink *= torch.from_numpy(present)[:, :, None, None]

        light = rng.random((n, _OBJECTS)) < 0.5
        light[:, 0], light[:, 1] = True, False
        contrast = rng.uniform(0.45 - 0.2 * d, 0.5, (n, _OBJECTS)) * np.where(light, 1, -1)
        roughness = rng.uniform(0.02, 0.02 + 0.08 * d, n)
        level = rng.uniform(0.5 - 0.08 * d, 0.5 + 0.08 * d, n)
        canvas = crops(rng, n, IMAGE_SIZE) * column(roughness, 3) + column(level, 3)
        for k in range(_OBJECTS):
            target = column(level + contrast[:, k], 3)
            canvas += ink[:, k] * (target - canvas)
        tint = 1 + torch.from_numpy(rng.uniform(-0.12 * d, 0.12 * d, (n, 3, 1, 1))).float()
        image = (canvas[:, None] * tint).clamp_(0, 1)
        label = self._labels[torch.from_numpy(which[:, 0])]
        return Example(image, label, ink[:, 0] > 0.5, ink[:, 1] > 0.5)


def _places(rng: np.random.Generator, reach: np.ndarray) -> np.ndarray:
    """Returns centres (n, object, 2) as (x, y) in pixels: the candidate that overlaps least."""
    n, objects = reach.shape
    centre = np.empty((n, objects, 2))
    for k in range(objects):
        low = reach[:, k, None, None]
        tried = low + rng.random((n, _CANDIDATES, 2)) * (IMAGE_SIZE - 2 * low)
        apart = np.abs(tried[:, :, None] - centre[:, None, :k]).max(-1) - (reach[:, None, :k] + low)
        gap = np.minimum(apart.min(-1, initial=np.inf), 0)  # candidates that touch nothing are equal
        centre[:, k] = tried[np.arange(n), gap.argmax(1)]
    return centre


def _windows(centre: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Returns 1 inside the square of each fragment, 0 outside: (n, fragment, 56, 56)."""
    pixel = np.arange(IMAGE_SIZE) + 0.5
    inside = np.abs(pixel - centre[..., None]) < reach[..., None, None]  # (n, fragment, 2, 56)
    return (inside[:, :, 1, :, None] & inside[:, :, 0, None, :]).astype(np.float32)
