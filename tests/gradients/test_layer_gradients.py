"""Gradients of each layer's own score. Beside the formula of LeGrad: tests/attribution/of_a_class/test_le_grad.py."""

from functools import partial

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.gradients import capture_gradients, capture_layer_gradients
from attnchain_interp.gradients.layer_gradients import LayerOutputs

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


class Model(nn.Module):
    """Three blocks that multiply, and a head that adds."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2, bias=False)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x + 10


def test_the_head_reads_each_blocks_output() -> None:
    model, x = Model(), torch.randn(3, 2)
    names = [f"blocks.{k}.0" for k in range(3)]
    with LayerOutputs(model) as outputs:
        own = model(x)
    expected, tokens = [], x
    for block in model.blocks:
        tokens = block(tokens)
        expected.append(tokens + 10)
    found = list(outputs.read(names, partial(model, x)))
    assert torch.equal(found[0], own), "the last block's own comes first"
    assert all(torch.equal(one, other) for one, other in zip(found[1:], expected, strict=True))
    assert torch.equal(model(x), own)
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_layers_outside_blocks_are_refused() -> None:
    model = nn.ModuleDict({"inner": nn.Linear(2, 2)})
    with pytest.raises(ac.AttentionError, match=r"(?s)layer 'inner' is in no block of its own.*capture_gradients"):
        next(LayerOutputs(model).read(["inner"], lambda: None))
