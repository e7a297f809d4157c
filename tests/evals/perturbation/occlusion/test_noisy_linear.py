from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from torch import Tensor

from attnchain_evals.perturbation.occlusion import (
    NoisyLinear,
    Occlusion,
)
from attnchain_evals.perturbation.occlusion.noisy_linear import interpolated
from attnchain_interp import AttentionError


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(AttentionError, match="seed is -1; it is the seed of the noise, a whole number from 0 on"):
        NoisyLinear(seed=-1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def seen(occlusion: Occlusion, images: Tensor, removed: Tensor, first: int = 0) -> Tensor:
    """The images that a model is given."""
    return occlusion.over(lambda batch: batch, images, first)(torch.arange(len(images)), removed)


def test_noisy_linear_solves_the_dense_system(images: Tensor) -> None:
    removed = torch.rand(12, 12, generator=torch.Generator().manual_seed(1)) < 0.7
    removed[:4, :4] = True
    image, hole = images[0].double().numpy(), removed.numpy()
    system, known = np.eye(144), image.reshape(3, 144).T.copy()
    for i, j in zip(*hole.nonzero(), strict=True):
        weights = {
            (i + di) * 12 + j + dj: 1 / 6 if di == 0 or dj == 0 else 1 / 12
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (di, dj) != (0, 0) and 0 <= i + di < 12 and 0 <= j + dj < 12
        }
        known[12 * i + j] = 0
        for place, weight in weights.items():
            system[12 * i + j, place] = -weight / sum(weights.values())
    expected = np.linalg.solve(system, known).T.reshape(3, 12, 12)
    assert np.allclose(interpolated(image, hole), expected)
    assert np.allclose(interpolated(image, np.ones((12, 12), bool)), image.mean((1, 2), keepdims=True))


def test_the_noise_is_of_the_image_and_not_of_its_batch(images: Tensor) -> None:
    removed = torch.zeros(2, 12, 12, dtype=torch.bool)
    removed[:, 3:9, 3:9] = True
    noisy, clean = (seen(NoisyLinear(noise), images, removed, first=4) for noise in (0.01, 0.0))
    assert torch.equal(noisy[:, :, :3], images[:, :, :3])
    assert 0.005 < float((noisy - clean)[:, :, 3:9, 3:9].std()) < 0.02
    assert torch.equal(seen(NoisyLinear(), images[1:], removed[1:], first=5), noisy[1:])


def test_noisy_linear_imputation_of_quantus(images: Tensor) -> None:
    """Which is adapted from the code of ROAD."""
    image, hole = images[0].double().numpy(), np.random.default_rng(0).random((12, 12)) < 0.6
    pixels: Any = hole.ravel().nonzero()[0]
    expected = noisy_linear_imputation(image, pixels, noise=0)
    assert np.allclose(interpolated(image, hole), expected)
