"""The model's head on the output of each block, and modules that are left as they were."""

from functools import partial

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.gradients.block_replay import LayerOutputs


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
