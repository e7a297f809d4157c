"""The strong check holds for what a model uses, and fails for decoys and for maps that are not the model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import CaptureRequest, StoreCollector, adapter_of


class Reader(nn.Module):
    """Two attention modules; the output depends on the first, and on the second where it is no decoy."""

    def __init__(self, decoy: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        for module in (self.first, self.second):
            nn.init.normal_(module.in_proj_weight)
        self.decoy = decoy

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x, x, x)[0]
        beside = self.second(x, x, x)[0]
        return x if self.decoy else x + beside


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def test_it_holds_for_what_the_model_uses(tokens: Tensor) -> None:
    model = Reader(decoy=False).eval()
    proof = ac.prove(model, tokens)
    assert proof.holds
    assert proof.deviation < 1e-6
    assert [layer.name for layer in proof.layers] == proof.store.names == ["first", "second"]
    assert all(layer.moved > 0.01 for layer in proof.layers)
    assert not any(len(module._forward_hooks) for module in model.modules())


def test_a_decoy_moves_nothing(tokens: Tensor) -> None:
    proof = ac.prove(Reader(decoy=True).eval(), tokens)
    assert not proof.holds
    assert [layer.moved > 0 for layer in proof.layers] == [True, False]
    assert ac.prove(Reader(decoy=True).eval(), tokens, layers="first").holds


def test_maps_that_are_not_the_models_deviate(tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the recorder had read the maps in another order than the model does."""
    from attnchain_adapters.recording.attention_calls import AttentionCall

    with_maps = AttentionCall.with_maps

    def swapped(call: AttentionCall, maps: Tensor) -> Any:
        return with_maps(call, maps.flip(-1))

    monkeypatch.setattr(AttentionCall, "with_maps", swapped)
    proof = ac.prove(Reader(decoy=False).eval(), tokens)
    assert proof.deviation > 0.01
    assert not proof.holds


def test_an_edit_is_what_the_model_goes_on_with(tokens: Tensor) -> None:
    model, seen = Reader(decoy=False).eval(), []
    adapter = adapter_of(model)
    assert adapter is not None

    def uniform(name: str, maps: Tensor) -> Tensor:
        seen.append(name)
        return torch.full_like(maps, 1 / maps.shape[-1])

    outputs: list[Tensor] = []
    with torch.no_grad(), model.first.register_forward_hook(lambda *args: outputs.append(args[-1][0])):
        store = adapter.capture(model, (tokens,), {}, CaptureRequest(StoreCollector(), "first", edit=uniform))
    assert seen == ["first"]
    assert float(store.maps().std(-1).mean()) > 0.01, "what is kept is the model's own"
    assert torch.allclose(outputs[-1], outputs[-1][:, :1].expand_as(outputs[-1]), atol=1e-6), "each token saw the same"


def test_what_cannot_be_proved(tokens: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="prove needs a model that an adapter recognises; got function"):
        ac.prove(lambda x: x, tokens)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="no module of Linear attends"):
        ac.prove(nn.Linear(tokens.shape[-1], 2), tokens)

    with pytest.raises(ac.AttentionError, match="(?s)the output is bfloat16.*Pass model.float"):
        ac.prove(Reader(decoy=False).eval().bfloat16(), tokens.bfloat16())

    class Silent(Reader):
        def forward(self, x: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().forward(x)
            return "done"

    with pytest.raises(ac.AttentionError, match=r"the output \(str\) holds no floating-point tensor"):
        ac.prove(Silent(decoy=False).eval(), tokens)
