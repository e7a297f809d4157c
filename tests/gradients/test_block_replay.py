"""The head of a model on other tokens, without its blocks."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.gradients.block_replay import LayerOutputs, check_replayed


class Model(nn.Module):
    """Three blocks that multiply, and a head that adds."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2, bias=False)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x + 10


NAMES = [f"blocks.{k}.0" for k in range(3)]


def test_the_head_reads_each_blocks_output() -> None:
    model, x = Model(), torch.randn(3, 2)
    with LayerOutputs(model) as outputs:
        own = model(x)
    expected, tokens = [], x
    for block in model.blocks:
        tokens = block(tokens)
        expected.append(tokens + 10)
    found = list(outputs.read(NAMES, partial(model, x)))
    assert torch.equal(found[0], own), "the last block's own comes first"
    assert all(torch.equal(one, other) for one, other in zip(found[1:], expected, strict=True))
    assert torch.equal(model(x), own)
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_the_head_reads_tokens_that_require_a_gradient() -> None:
    model, x = Model(), torch.randn(3, 2)
    with torch.no_grad(), LayerOutputs(model, gradients=False) as outputs:
        own = model(x)
        with torch.enable_grad():
            model(x + 1)  # does not count

    def run(tokens: Tensor) -> tuple[Tensor, Tensor]:
        output = model(x)
        return output, torch.autograd.grad(output.sum(), tokens)[0]

    output, gradient = outputs.head(NAMES, run)
    assert torch.equal(output, own)
    assert torch.equal(gradient, torch.ones(3, 2))
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_refusals() -> None:
    model = nn.ModuleDict({"inner": nn.Linear(2, 2)})
    with pytest.raises(ac.AttentionError, match=r"(?s)layer 'inner' is in no block of its own.*capture_gradients"):
        next(LayerOutputs(model).read(["inner"], lambda: None))
    check_replayed(model, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0001]))
    with pytest.raises(
        ac.AttentionError, match=r"(?s)ModuleDict gives another score when its blocks return.*capture_gradients"
    ):
        check_replayed(model, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]))
