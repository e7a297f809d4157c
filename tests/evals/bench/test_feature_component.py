"""The first principal component of features, beside a decomposition of the model's own features."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from timm.models import VisionTransformer
from torch import Tensor

from attnchain_evals import FeatureComponent
from attnchain_evals.bench import feature_component
from attnchain_interp import AttentionError, TokenLayout


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
    monkeypatch.setattr(feature_component, "capture", lambda *_, **__: pooled)
    with pytest.raises(AttentionError, match="no module of VisionTransformer outputs a vector for each of its 25 tokens"):
        FeatureComponent(model, (5, 5)).attribute(torch.rand(1, 3, 8, 8))
