"""The contract of controls for images, and each of them; features beside a decomposition of the model's own features."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from timm.models import VisionTransformer
from torch import Tensor

from attnchain_evals import CentrePrior, FeatureComponent, InputMagnitude
from attnchain_evals.bench import image_controls
from attnchain_evals.bench.image_controls import ImageControl
from attnchain_evals.perturbation.patches import Patches
from attnchain_interp import AttentionError, TokenLayout


class Numbered(ImageControl):
    def cells(self, images: Tensor, patches: Patches) -> Tensor:
        return torch.arange(4.0).view(1, 2, 2).expand(len(images), -1, -1)


def test_cells_are_given_as_a_grid_or_enlarged() -> None:
    images = torch.rand(3, 2, 8, 4)
    control = Numbered((2, 2))
    assert torch.equal(control.attribute(images, output="grid")[2], torch.tensor([[0.0, 1], [2, 3]]))
    pixels = control.attribute(images)
    assert (pixels.shape, pixels.is_contiguous()) == (images.shape, True)
    assert pixels[1, 1, 3, 2] == 1
    assert pixels[1, 0, 4, 1] == 2
    assert repr(control) == "Numbered(grid=(2, 2))"


def test_texts_are_refused() -> None:
    with pytest.raises(AttentionError, match="this control is of images"):
        Numbered((2, 2)).attribute(torch.ones(2, 7).long())
    with pytest.raises(AttentionError, match="output is 'tokens'"):
        Numbered((2, 2)).attribute(torch.rand(1, 3, 8, 8), output="tokens")


def test_a_gaussian_in_the_middle() -> None:
    cells = CentrePrior((4, 2)).attribute(torch.rand(3, 3, 8, 8), output="grid")
    assert cells.shape == (3, 4, 2)
    assert torch.equal(cells[0], cells[2])
    expected = math.exp(-(0.375**2 + 0.25**2) / (2 * 0.25**2))
    assert torch.allclose(cells[0, 0, 1], torch.tensor(expected))
    assert torch.equal(cells, cells.flip(1, 2))
    middle = CentrePrior((3, 3)).attribute(torch.rand(1, 3, 9, 9).double(), output="grid")[0]
    assert middle[1, 1] == 1
    assert middle.dtype == torch.float64


def test_the_control_has_the_shape_of_the_input() -> None:
    images = torch.rand(2, 3, 8, 8)
    scores = InputMagnitude((2, 2)).attribute(images)
    assert (scores.shape, scores.is_contiguous()) == (images.shape, True)
    expected = (images - images.mean((2, 3), keepdim=True)).abs()[0, :, :4, :4].mean()
    assert float(scores[0, 0, 0, 0]) == pytest.approx(float(expected))


def component(patches: Tensor) -> Tensor:
    """(patch,): the first eigenvector of the covariance, by another way than singular values."""
    centred = patches - patches.mean(0)
    _, vectors = torch.linalg.eigh(centred.mT @ centred)
    return centred @ vectors[:, -1]


def test_on_timm_and_transformers() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16)
    timm: Any = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3).eval()
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(image_size=16, patch_size=4, **sizes)).eval()
    for model, features in ((timm, timm.forward_features(images)), (dinov2, dinov2(images).last_hidden_state)):
        found = FeatureComponent(model, (4, 4)).attribute(images, output="grid")
        border = torch.ones(4, 4).bool()
        border[1:3, 1:3] = False
        for cells, tokens in zip(found, features.detach()[:, 1:], strict=True):
            expected = component(tokens).view(4, 4)
            expected = expected if float(expected[border].mean()) < 0 else -expected
            assert torch.allclose(cells, expected, atol=1e-4)
            assert float(cells[border].mean()) <= 0
        assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_vectors_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = VisionTransformer(img_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2, num_classes=3).eval()
    pooled = SimpleNamespace(tokens=TokenLayout.image(1, (5, 5)))  # of a model inside, whose tokens no module puts out
    monkeypatch.setattr(image_controls, "capture", lambda *_, **__: pooled)
    with pytest.raises(AttentionError, match="no module of VisionTransformer outputs a vector for each of its 25 tokens"):
        FeatureComponent(model, (5, 5)).attribute(torch.rand(1, 3, 8, 8))
