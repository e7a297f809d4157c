"""Gradients of each layer's own score. Beside the formula of LeGrad: tests/attribution/of_a_class/test_le_grad.py."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.gradients import capture_gradients, capture_layer_gradients

from ..attribution import small_models as small


def test_the_last_layer_has_the_gradient_of_the_models_own_score() -> None:
    model, images = small.vit(), small.images()
    layers, own = (capture(model, images, target=1) for capture in (capture_layer_gradients, capture_gradients))
    assert torch.allclose(layers.store.maps(), own.store.maps(), atol=1e-12)
    assert torch.allclose(layers.gradient(-1), own.gradient(-1), atol=1e-9)
    assert not torch.allclose(layers.gradient(0), own.gradient(0), atol=1e-9), "earlier layers have scores of their own"
    last = capture_layer_gradients(model, images, target=1, layers=-1)
    assert torch.allclose(last.gradient(0), own.gradient(-1), atol=1e-9)


def test_a_source_without_blocks() -> None:
    x, model = torch.randn(1, 3, 8), torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with pytest.raises(ac.AttentionError, match="(?s)is in no block of its own.*capture_gradients"):
        capture_layer_gradients(model, x, x, x, target=lambda output: output[0].sum((1, 2)))
