"""Other libraries' figures on the same inputs, where their definitions coincide with ours."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from torch import Tensor
from torchcam.metrics import DeletionInsertionMetric

from attnchain_evals.metrics import Deletion, EnergyInside, Insertion, Protocol, Trial
from attnchain_evals.perturbation.occlusion import Blur, Zero
from attnchain_evals.perturbation.occlusion.noisy_linear import interpolated

from .planted import Planted


class Given:
    """What torch-cam asks of a method: here the saliency is there already."""

    _hooks_off = nullcontext

    def __init__(self, model: torch.nn.Module, saliency: Tensor) -> None:
        self.model, self.saliency = model, saliency

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.saliency]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("occlusion", "baseline"), [(Zero(), None), (Blur(2.0), Blur(2.0))])
@pytest.mark.parametrize("side", [16, 4])
def test_areas_of_torch_cam(images: Tensor, occlusion: Zero | Blur, baseline: Any, side: int) -> None:
    """Pixels, 16 steps of 16; a map of another size is enlarged bilinearly, ties keep raster order."""
    model, saliency = Planted().eval(), torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))
    metric = DeletionInsertionMetric(Given(model, saliency), partial(torch.softmax, dim=-1), steps=16, baseline=baseline)
    metric.update(images)
    trial = Trial(model, images, model(images).argmax(1))
    protocol = Protocol(occlusion, "pixel", 16)
    for ours, theirs in ((Deletion(protocol), "deletion_auc"), (Insertion(protocol), "insertion_auc")):
        assert float(ours.measure(trial, saliency)[:, 0].mean()) == pytest.approx(metric.summary()[theirs], abs=1e-6)


def test_noisy_linear_imputation_of_quantus(images: Tensor) -> None:
    """Which is adapted from the code of ROAD."""
    image, hole = images[0].double().numpy(), np.random.default_rng(0).random((16, 16)) < 0.6
    pixels: Any = hole.ravel().nonzero()[0]
    expected = noisy_linear_imputation(image, pixels, noise=0)
    assert np.allclose(interpolated(image, hole), expected)


def test_the_energy_inside_is_the_relevance_mass_accuracy_of_quantus(images: Tensor) -> None:
    maps = images.mean(1)
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[:, 3:9, 2:12] = True
    expected = quantus.RelevanceMassAccuracy(disable_warnings=True, display_progressbar=False, normalise=False)(
        model=None,
        x_batch=images.numpy(),
        y_batch=np.zeros(3, int),
        a_batch=maps[:, None].numpy(),
        s_batch=mask[:, None].numpy(),
    )
    found = EnergyInside().measure(Trial(Planted(), images, torch.zeros(3), mask), maps)[:, 0]
    assert found.tolist() == pytest.approx([float(share) for share in expected], abs=1e-6)
