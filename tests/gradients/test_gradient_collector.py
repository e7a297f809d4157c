"""Gradients in factors: the same as those of maps, for every method, and memory of a tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import OutputCollector
from attnchain_interp.gradients import FactoredGradient, map_gradients
from attnchain_interp.gradients.gradient_collector import GradientCollector
from attnchain_interp.operators import tiles

from ..attribution import small_models as small

IDS, PADDED = small.ids(), torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
MODELS: dict[str, Any] = {
    "ViT": (lambda: small.vit(), (small.images(),), {}, 1),
    "BERT": (lambda: small.bert(), (), {"input_ids": IDS, "attention_mask": PADDED}, [1, 2]),
    "Llama": (lambda: small.llama(), (), {"input_ids": IDS, "attention_mask": PADDED}, [(6, 3), (4, 8)]),
    "Llama, left padding": (lambda: small.llama(), (), {"input_ids": IDS, "attention_mask": PADDED.flip(1)}, (6, 3)),
}
METHODS: list[Any] = [
    ac.GradientAttention(),
    ac.attribution.GradientRollout(),
    ac.GMAR(),
    ac.ExpectedVisits(),
    ac.ExpectedVisits(layer_weights="mean", balanced=True),
    ac.GradientTokenRank(),
    ac.GradientTokenRank(tokens="all", layers=[0, 1]),
    ac.GradientMultiBounce(start=2),
]


@pytest.fixture(params=MODELS)
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Maps and factors of one model and target."""
    monkeypatch.setattr(tiles, "_LEAST", 1)
    monkeypatch.setattr(map_gradients, "_TILE", 2 * 3 * 7 * 2)  # two queries at a time
    made, inputs, kwargs, target = MODELS[request.param]
    given = {**kwargs, "target": target}
    maps, factors = (ac.capture_gradients(made(), *inputs, **given, keep=keep) for keep in ("maps", "factors"))
    return maps, factors


def test_factors_are_those_of_the_maps(both: tuple[Any, Any]) -> None:
    maps, factors = both
    assert all(isinstance(gradient, Tensor) for gradient in maps.gradients)
    assert all(isinstance(gradient, FactoredGradient) for gradient in factors.gradients)
    for layer, (one, other) in enumerate(zip(maps, factors, strict=True)):
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one, other, strict=True))
        assert torch.allclose(factors.gradient(layer), maps.gradient(layer), atol=1e-12)
        found = list(factors.tiles(layer))
        assert [rows.start for rows, _, _ in found] == [0, 2, 4, 6]
        for rows, some, gradients in found:
            assert torch.allclose(some * gradients, (one[0] * one[1])[:, :, rows, : some.shape[-1]], atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_method_reads_factors(method: Any, both: tuple[Any, Any]) -> None:
    maps, factors = both
    assert torch.allclose(method.score(factors), method.score(maps), atol=1e-10)
    assert bool(method.score(maps).any())


def test_what_is_kept_by_itself() -> None:
    """Two layers of three heads and seven tokens have 2 · 2 · 3 · 49 numbers an image, with gradients."""
    model, images, size = small.vit(), small.images(), 4 * 2 * 2 * 2 * 3 * 49
    held = [ac.capture_gradients(model, images, target=1, max_bytes=limit).gradients[0] for limit in (size, size - 1)]
    assert [type(each) for each in held] == [Tensor, FactoredGradient]
    eager = ac.capture_gradients(small.vit(fused=False), images, target=1, max_bytes=0)
    assert isinstance(eager.gradients[0], Tensor), "its maps are there already"
    with pytest.raises(ac.AttentionError, match='keep="factors": this model computes attention without the fused call'):
        ac.capture_gradients(small.vit(fused=False), images, target=1, keep="factors")
    with pytest.raises(ac.AttentionError, match="keep='rows' is unknown"):
        ac.capture_gradients(model, images, target=1, keep="rows")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="max_bytes"):
        GradientCollector(max_bytes=-1)
    assert isinstance(GradientCollector(), OutputCollector)
    assert repr(GradientCollector()) == "GradientCollector(StoreCollector('auto', 0 layers taken))"


class Doubled(nn.Module):
    """A block that changes the output of attention in place, beside a tower that is not asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        attended, _ = self.attention(x, x, x, need_weights=False)
        attended *= 2
        return self.head((x + attended).mean(1))


def test_a_model_that_changes_the_output_in_place() -> None:
    model, x = Doubled().double().eval(), torch.randn(2, 5, 8, dtype=torch.float64)
    found = ac.capture_gradients(model, x, target=1, reading=ac.Reading(tokens=ac.TokenLayout.text(torch.ones(2, 5))))
    maps = found.store.maps()[:, 0].requires_grad_()
    attention = model.attention
    values = (x @ attention.in_proj_weight[16:].mT + attention.in_proj_bias[16:]).unflatten(-1, (2, 4)).transpose(1, 2)
    mixed = attention.out_proj((maps @ values).transpose(1, 2).flatten(2))
    (expected,) = torch.autograd.grad(model.head((x + 2 * mixed).mean(1))[:, 1].sum(), maps)
    assert torch.allclose(found.gradient(0), expected, atol=1e-12)


def test_texts_are_read_in_factors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = small.llama()
    whole = ac.GradientAttention(model).attribute(IDS[:1], (6, 3), output="tokens")
    monkeypatch.setattr(map_gradients, "GradientCollector", lambda keep, size: GradientCollector("factors", size))
    assert torch.allclose(ac.GradientAttention(model).attribute(IDS[:1], (6, 3), output="tokens"), whole, atol=1e-10)


def test_it_is_the_gradient_by_the_map() -> None:
    """Four heads of queries, two of keys, seven queries, five keys."""
    torch.manual_seed(0)
    maps = torch.rand(2, 4, 7, 5, dtype=torch.float64, requires_grad=True)
    values, weights = torch.randn(2, 2, 5, 3, dtype=torch.float64), torch.randn(2, 4, 7, 3, dtype=torch.float64)
    mixed = maps @ values.repeat_interleave(2, 1)
    by_maps, by_outputs = torch.autograd.grad((weights * mixed.tanh()).sum(), (maps, mixed))
    found = FactoredGradient(by_outputs, values)
    assert torch.allclose(found.maps(), by_maps, atol=1e-14)
    part = found.maps(slice(2, 4), slice(0, 3))
    assert torch.allclose(part, by_maps[:, :, 2:4, :3], atol=1e-14)


def test_it_is_wide() -> None:
    outputs, values = torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3)
    found = FactoredGradient(outputs.half(), values.half())
    assert found.maps().dtype == torch.float32
    assert "FactoredGradient(" in repr(found)
