"""The head of a model on other tokens, without its blocks."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.gradients.block_replay import LayerOutputs


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
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(found[-1], own)
    assert torch.equal(model(x), own)
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_the_direction_of_a_score() -> None:
    model, x = Model(), torch.randn(3, 2)
    with torch.no_grad(), LayerOutputs(model, gradients=False) as outputs:
        own = model(x)
        with torch.enable_grad():
            model(x + 1)  # does not count
    found = outputs.direction(NAMES, lambda: 3 * model(x)[:, 0], 3 * own[:, 0])
    assert torch.equal(found, torch.tensor([[3.0, 0.0]]).expand(3, 2))
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())
    with pytest.raises(ac.AttentionError, match=r"(?s)score of Model is read off more than.*capture_gradients"):
        outputs.direction(NAMES, lambda: model(x)[:, 0], own[:, 0] + 0.1)
    with pytest.raises(ac.AttentionError, match="does not depend on the tokens of the last block"):
        outputs.direction(NAMES, lambda: 0 * own[:, 0] + x[:, 0], x[:, 0])


def test_a_head_that_reads_an_earlier_block_is_refused() -> None:
    class Skipping(Model):
        def forward(self, x: Tensor) -> Tensor:
            first = tokens = self.blocks[0](x)
            for block in list(self.blocks)[1:]:
                tokens = block(tokens)
            return tokens + first

    model, x = Skipping(), torch.randn(3, 2)
    with torch.no_grad(), LayerOutputs(model, gradients=False) as outputs:
        own = model(x)
    with pytest.raises(ac.AttentionError, match=r"score of Skipping is read off more than"):
        outputs.direction(NAMES, lambda: model(x)[:, 0], own[:, 0])


def test_layers_outside_blocks_are_refused() -> None:
    model = nn.ModuleDict({"inner": nn.Linear(2, 2)})
    with pytest.raises(ac.AttentionError, match=r"(?s)layer 'inner' is in no block of its own.*capture_gradients"):
        next(LayerOutputs(model).read(["inner"], lambda: None))
