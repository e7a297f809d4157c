"""The recorder of attention blocks: hooks, and the layers that it hands over."""

import gc
from typing import Any, cast
from weakref import ref

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_adapters.contributions.recorder import ContributionRecorder
from attnchain_interp.capture import AttentionBlock, ContributionCollector, Expected, StoreCollector


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()


def test_wanted_layers_come_once_each_and_no_hook_stays() -> None:
    model, collector = encoder(), ContributionCollector("norm", StoreCollector())
    collector.expect(Expected(ac.TokenLayout.text(torch.ones(1, 4)), 2, 2, False))
    names = [f"layers.{k}.self_attn" for k in range(3)]
    watched = {name: [name] for name in names}
    with ContributionRecorder(model, watched, set(names[1:]), collector) as recording, torch.no_grad():
        model(torch.randn(1, 4, 8))
    store = collector.result(names[1:], {})
    assert store.names == names[1:] == list(recording.routes)
    assert torch.allclose(store.maps().sum(-1), torch.ones(1, 2, 1, 4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_module_that_runs_twice_is_two_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(2):
                x = x + self.attention(x, x, x)[0]
            return x

    model, x = Twice().eval(), torch.randn(1, 4, 8)
    found = ac.capture(model, x, maps="alti")
    assert found.names == ["attention[0]", "attention[1]"]
    assert torch.equal(found[1].maps, ac.capture(model, x, layers=-1, maps="alti")[0].maps)


def test_attention_that_comes_twice_in_a_layer_is_refused() -> None:
    class Paths(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + (x @ x.mT).softmax(-1) @ x + (-x @ x.mT).softmax(-1) @ x

    collector = ContributionCollector("norm", StoreCollector())
    collector.expect(Expected(ac.TokenLayout.text(torch.ones(1, 4)), 1, 2, False))
    model = nn.Sequential(Paths())
    with (
        pytest.raises(ac.AttentionError, match="computed attention twice in one forward"),
        torch.no_grad(),
        ContributionRecorder(model, {"0": ["0"]}, {"0"}, collector),
    ):
        model(torch.randn(1, 4, 8))


def test_a_block_is_gone_once_it_is_taken() -> None:
    """Without the help of the collector of garbage: a trace holds no cycle."""

    class Seen:
        wants_blocks = True

        def __init__(self) -> None:
            self.values: list[ref[torch.Tensor]] = []
            self.alive: list[int] = []

        def take_block(self, name: str, block: AttentionBlock, *_: object) -> None:
            assert isinstance(block, AttentionBlock)
            self.values.append(ref(block.attended))
            self.alive.append(sum(value() is not None for value in self.values))

        take = expect = result = take_block

    torch.manual_seed(0)
    layer, seen = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0), Seen()
    model, names = (
        nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).eval(),
        [f"layers.{k}.self_attn" for k in range(6)],
    )
    gc.disable()
    try:
        with torch.no_grad(), ContributionRecorder(model, {name: [name] for name in names}, set(names), cast("Any", seen)):
            model(torch.randn(1, 4, 8))
    finally:
        gc.enable()
    assert seen.alive == [1] * 6


def test_a_map_may_be_of_more_bits_than_the_values() -> None:
    class Attention(nn.Module):
        def __init__(self, wide: bool) -> None:
            super().__init__()
            self.qkv, self.out, self.wide = nn.Linear(8, 24), nn.Linear(8, 8), wide

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            maps = (q @ k.mT).softmax(-1)
            return x + self.out((maps.double().float() if self.wide else maps) @ v)

    torch.manual_seed(0)
    model, x = nn.Sequential(Attention(False), Attention(True)).eval(), torch.randn(1, 4, 8)
    reading = ac.Reading(tokens=ac.TokenLayout.text())
    assert ac.capture(model, x, reading=reading)[1].maps.dtype == torch.float64
    contributions = ac.capture(model, x, reading=reading, maps="alti")
    cast("Any", model[1]).wide = False
    assert torch.allclose(contributions.maps(), ac.capture(model, x, reading=reading, maps="alti").maps(), atol=1e-6)
