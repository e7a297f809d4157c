"""Attributions of Captum's shapes, lists and arrays, and pixels of models that read patches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import attnchain_interp as ac
from attnchain_evals import Perturbation, Protocol, Trial, bundled_vit, perturbation_curve
from attnchain_evals.metrics.curves import SRG
from attnchain_evals.metrics.subset_metrics import Infidelity, SensitivityN
from attnchain_evals.perturbation.given import scores_of

from ..summed_tokens import IDS, ORACLE, Sum

IMAGES = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, Any] = {"fractions": 4, "target": 1}


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return bundled_vit()


def scores(model: Any, inputs: Tensor, attributions: Any, **options: Any) -> Tensor:
    return perturbation_curve(model, inputs, attributions, **{**OPTIONS, **options}).scores


def test_pixels_of_captum_are_the_cells_of_the_models_grid(vit: nn.Module) -> None:
    """The same map on the patch grid gives the same curve."""
    heat = IntegratedGradients(vit).attribute(IMAGES, target=1, n_steps=2)
    grid = nn.functional.avg_pool2d(heat.sum(1), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = perturbation_curve(vit, IMAGES, heat, **OPTIONS)
    expected = perturbation_curve(vit, IMAGES, grid, **OPTIONS)
    assert torch.equal(found.scores, expected.scores)
    assert found.features == "14 × 14 patches, the means of 56 × 56 pixels"
    assert expected.features == "14 × 14 patches"
    assert "5 steps of 14 × 14 patches, the means" in repr(found)
    trial = Trial(vit, IMAGES, torch.tensor([1, 1]))
    for metric in (SRG(Protocol(fractions=2)), SensitivityN((0.1,), 4), Infidelity(4)):
        both = [metric.measure(trial, each) for each in (heat.sum(1), grid)]
        torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_each_reduction_of_channels(vit: nn.Module) -> None:
    heat = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    for reduction, summed in (("sum", heat.sum(1)), ("absolute", heat.abs().sum(1)), ("norm", heat.norm(dim=1))):
        assert torch.equal(scores(vit, IMAGES, heat, reduction=reduction), scores(vit, IMAGES, summed)), reduction
    with pytest.raises(ac.AttentionError, match="reduction='max' is unknown"):
        scores(vit, IMAGES, heat, reduction="max")


def test_lists_arrays_and_tuples_of_captum() -> None:
    heat = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    images = torch.ones(2, 3, 8, 12)
    for given in (heat.requires_grad_(), heat.tolist(), list(heat), heat.detach().numpy(), [*heat.detach().numpy()], (heat,)):
        found = scores_of(given, images)
        assert torch.allclose(found, heat.sum(1).to(found.dtype)), type(given)
        assert not found.requires_grad
    assert scores_of([[1, 2], [3, 4]], IDS[:, :2]).tolist() == [[1, 2], [3, 4]]
    assert scores_of((np.ones((2, 5, 7)),), IDS).tolist() == [[7.0] * 5] * 2
    for bad in ("saliency", [torch.ones(2), torch.ones(3)], [["a"]], torch.ones(2, 5, dtype=torch.complex64), None):
        with pytest.raises(ac.AttentionError, match="not an array of real numbers"):
            scores_of(bad, IDS)


def test_token_numbers_perturb_tokens() -> None:
    found = perturbation_curve(Sum().eval(), IDS, ORACLE, 1, occlusion="pad-token", fractions=5)
    named = perturbation_curve(Sum().eval(), IDS, ORACLE, 1, occlusion="pad-token", fractions=5, features="token")
    assert torch.equal(found.scores, named.scores)
    assert found.features == "tokens"
    assert torch.equal(
        scores(Sum().eval(), IDS, ORACLE[..., None].expand(-1, -1, 8) / 8, occlusion="pad-token", fractions=5), found.scores
    )


def test_a_result_of_a_text_is_not_its_scores() -> None:
    result: Any = ac.TextAttributionResult(input_tokens=["a"], output_tokens=["b"], token_attr=torch.ones(1, 1), policy="")
    with pytest.raises(ac.AttentionError, match=r"Pass its scores: result\.seq_attr\[None\]"):
        perturbation_curve(Sum().eval(), IDS, result, 1, occlusion="pad-token")


def test_integrated_gradients_of_a_text() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    ids = torch.arange(12).view(2, 6)
    captum = LayerIntegratedGradients(lambda text: model(text).logits[:, -1], model.transformer.wte)
    heat: Any = captum.attribute(ids, torch.zeros_like(ids), target=3, n_steps=2)
    assert torch.equal(
        scores(model, ids, heat, occlusion="mean-embedding"), scores(model, ids, heat.sum(2), occlusion="mean-embedding")
    )


def test_cells_that_are_pixels_are_told_and_a_grid_can_be_named() -> None:
    convolution = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    heat = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1))
    images = IMAGES[..., :8, :8]
    with pytest.warns(UserWarning, match=r"8 × 8 pixels are scored pixel by pixel, because Sequential .* features=\(rows"):
        found = perturbation_curve(convolution, images, heat, **OPTIONS)
    assert found.features == "8 × 8 pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for features in ("patch", "pixel"):
            assert torch.equal(scores(convolution, images, heat, features=features), found.scores)
        cells = perturbation_curve(convolution, images, heat, features=(2, 4), **OPTIONS)
    assert cells.features == "2 × 4 patches, the means of 8 × 8 pixels"
    pooled = nn.functional.avg_pool2d(heat, (4, 2))
    assert torch.equal(cells.scores, scores(convolution, images, pooled))
    for bad in ((2, 9), (0, 2), (2,), (2.0, 2)):
        with pytest.raises(ac.AttentionError, match="is not a grid of images of 8 × 8 pixels"):
            Perturbation(convolution, images).ranked(heat, bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(56, 56, 3), (56, 56, 1), (14, 14, 1)])
def test_channels_last_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)channels last.*Pass attributions\.permute\(0, 3, 1, 2\)"):
        scores_of(torch.ones(2, *shape), IMAGES)


@pytest.mark.parametrize("shape", [(1, 7, 3), (3, 8, 3), (512, 7, 7), (512, 1, 1), (768, 2, 3), (512, 4, 1)])
def test_channels_of_images_and_of_layers_are_reduced(shape: tuple[int, ...]) -> None:
    assert scores_of(torch.ones(2, *shape), IMAGES).shape == (2, *shape[1:])
