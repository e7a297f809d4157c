"""Attention beside a model inside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.recording.outside_recorder import OutsideRecorder
from attnchain_adapters.torch_models.adapter import TorchAdapter
from attnchain_interp.capture import WatchingAdapter


class Attends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class ByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize("block", [Attends, ByHand])
def test_only_what_runs_outside_is_noted(block: type[nn.Module]) -> None:
    model, x, running = nn.Sequential(block(), block()), torch.randn(1, 2, 3, 4), [False]
    model[0].register_forward_pre_hook(lambda *_: running.__setitem__(0, True))
    model[0].register_forward_hook(lambda *_: running.__setitem__(0, False))
    with OutsideRecorder(model, lambda: running[0]) as recorder:
        output = model(x)
    assert list(recorder.strangers) == ["1"]
    assert recorder.strangers["1"].startswith(block.__name__)
    assert torch.equal(output, model(x))


def test_torchs_adapter_watches() -> None:
    adapter, model = TorchAdapter(), Attends()
    assert isinstance(adapter, WatchingAdapter)
    with adapter.outside(model, lambda: False) as outside:
        model(torch.randn(1, 2, 3, 4))
    assert list(outside) == ["Attends"]
    with adapter.outside(model, lambda: True) as outside:
        model(torch.randn(1, 2, 3, 4))
    assert not outside
