"""The mean of the layers of contributions or attention, added up as they come, beside that of a store of all layers."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.capture import Expected, LayerMean, Shown, mean_collector
from attnchain_interp.capture.mean_collector import MeanCollector
from attnchain_interp.operators import tiles

from ..attribution import small_models as small

BOTH = LayerMean("late", "mean")
PADDED = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])


@pytest.mark.parametrize(("rule", "maps"), [("mean", "projection"), ("late", None)])
@pytest.mark.parametrize("build", [small.llama, small.bert])
def test_one_map_is_the_mean_of_the_layers(build: Any, rule: Any, maps: Any) -> None:
    model = build()
    inputs: dict[str, Any] = {"input_ids": small.ids(), "attention_mask": PADDED}
    whole = ac.capture(model, **inputs, maps=maps)
    found = ac.capture(model, **inputs, maps=maps, keep=LayerMean(rule, rule))
    assert found.names == [f"mean of {len(whole)} layers"]
    assert found.metadata["maps"] == (maps or "alti")
    expected = whole.chain(tokens="all", layer_weights=rule).matrix
    assert torch.allclose(found.chain(tokens="all").matrix, expected, atol=1e-6)


def test_the_rule_is_that_of_the_first_layer() -> None:
    for model, rule in ((small.llama(), "late"), (small.bert(), "mean")):
        found = ac.capture(model, small.ids(), maps="projection", keep=BOTH)
        expected = ac.capture(model, small.ids(), maps="projection").chain(layer_weights=rule).matrix
        assert torch.allclose(found.chain().matrix, expected, atol=1e-6)
    apart = ac.capture(small.llama(), small.ids(), maps="projection", keep=LayerMean(None, "mean"))
    assert len(apart) == len(ac.capture(small.llama(), small.ids()))


ONE: Final = 4 * 2 * 7 * 7  # bytes of one map of the batch, in float32


@pytest.mark.parametrize("rule", ["mean", "late"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("build", [small.llama, small.bert])
@pytest.mark.parametrize("tile", [1, 2**19])
def test_attention_too_large_for_all_layers_is_added_up(
    build: Any, implementation: str, rule: Any, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_LEAST", 1)
    monkeypatch.setattr(mean_collector, "_TILE", tile)
    model = build(implementation)
    inputs: dict[str, Any] = {"input_ids": small.ids(), "attention_mask": PADDED}
    whole = ac.capture(model, **inputs)
    found = ac.capture(model, **inputs, keep=LayerMean(rule, rule), max_bytes=4 * ONE)
    assert found.names == [f"mean of {len(whole)} layers"]
    expected = whole.chain(tokens="all", layer_weights=rule).matrix
    assert torch.allclose(found.chain(tokens="all").matrix, expected, atol=1e-12)


def test_rows_below_one_are_divided_by_their_sums_before_the_mean() -> None:
    torch.manual_seed(0)
    layers = [torch.rand(1, 3, 5, 5).softmax(-1) * torch.rand(1, 3, 5, 1) for _ in range(2)]
    query, key, logits = torch.randn(1, 3, 5, 4), torch.randn(1, 3, 5, 4), torch.randn(3)
    attentions = [*layers, ac.Factors(query, key, sinks=logits)]
    collector = MeanCollector(LayerMean("mean", "mean"))
    tokens = ac.TokenLayout.text(torch.ones(1, 5))
    collector.expect(Expected(tokens, 3, 3, False))
    for k, attention in enumerate(attentions):
        collector.take(f"layer.{k}", Shown(attention, sink=True))
    found = collector.result(["layer.0", "layer.1", "layer.2"], {})
    held = [ac.LayerAttention(f"layer.{k}", attention, sink=True) for k, attention in enumerate(attentions)]
    assert torch.allclose(found.chain().matrix, ac.AttentionStore(held, tokens).chain().matrix, atol=1e-6)


def test_attention_that_fits_or_whose_mean_does_not_fit_is_kept_by_layers() -> None:
    model, ids = small.llama(), small.ids()
    whole = ac.capture(model, ids)
    size = len(whole) * 3 * ONE
    for most, kept in ((size, 3), (size - 1, 1), (4 * ONE, 1), (4 * ONE - 1, 3)):
        assert len(ac.capture(model, ids, keep=BOTH, max_bytes=most)) == kept
    factored = ac.capture(model, ids, keep=BOTH, max_bytes=1)
    assert all(isinstance(layer.attention, ac.Factors) for layer in factored)
    assert len(ac.capture(model, ids, keep=LayerMean(None, None), max_bytes=4 * ONE)) == 3
    apart = ac.capture(model, ids, keep=LayerMean(None, "mean"), max_bytes=4 * ONE)
    assert all(isinstance(layer.attention, ac.Factors) for layer in apart)
    with pytest.raises(ac.AttentionError, match="over max_bytes"):
        ac.capture(small.llama("eager"), ids, keep=LayerMean(None, "mean"), max_bytes=4 * ONE)


def test_images_and_small_attention_are_kept_by_layers() -> None:
    model, images = small.vit(), small.images()
    whole = ac.capture(model, images, maps="projection", keep=BOTH)
    assert torch.equal(whole.maps(), ac.capture(model, images, maps="projection").maps())
    store = ac.capture(small.llama(), small.ids(), keep=BOTH)
    assert torch.equal(store.maps(), ac.capture(small.llama(), small.ids()).maps())
    assert ac.capture(lambda: store, keep=BOTH) is store


def test_layers_of_both_kinds_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose first layer is causal and whose later layers are not."""
    model: Any = small.bert()
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    attention, plain = model.bert.encoder.layer[0].attention.self, model.bert.encoder.layer[0].attention.self.forward

    def causal(hidden_states: Any, *_: Any, **options: Any) -> Any:
        return plain(hidden_states, **options | {"attention_mask": mask.expand(len(hidden_states), 1, 7, 7)})

    monkeypatch.setattr(attention, "forward", causal)
    whole = ac.capture(model, small.ids(), maps="projection")
    assert [layer.causal(whole.tokens.mask) for layer in whole] == [True, False]
    found = ac.capture(model, small.ids(), maps="projection", keep=BOTH)
    assert torch.equal(found.maps(), whole.maps())


def test_memory_is_asked_for_one_map() -> None:
    model, ids = small.llama(), small.ids()
    assert len(ac.capture(model, ids, maps="projection", keep=BOTH, max_bytes=ONE)) == 1
    with pytest.raises(ac.AttentionError, match=f"over max_bytes={ONE - 1}"):
        ac.capture(model, ids, maps="projection", keep=BOTH, max_bytes=ONE - 1)
    with pytest.raises(ac.AttentionError, match=f"over max_bytes={ONE}"):
        ac.capture(model, ids, maps="projection", keep=LayerMean(None, "mean"), max_bytes=ONE)
    assert repr(MeanCollector(BOTH)) == "MeanCollector(LayerMean(decoder='late', encoder='mean'))"


@pytest.mark.parametrize(
    ("method", "layers"),
    [
        (ac.TokenRank, 1),
        (ac.MultiBounce, 1),
        (lambda model: ac.ColumnSum(model, maps="norm"), 1),
        (lambda model: ac.TokenRank(model, balanced=0.5, causal="reverse"), 1),
        (lambda model: ac.TokenRank(model, causal="drop-first"), 3),
        (lambda model: ac.TokenRank(model, causal="absorb"), 3),
        (lambda model: ac.TokenRank(model, tokens=[0, 2, 4]), 3),
        (lambda model: ac.TokenRank(model, layers=[0, 2]), 2),
        (lambda model: ac.TokenRank(model, layer_weights="lambda2"), 3),
        (lambda model: ac.TokenRank(model, layer_weights=[1, 2, 3]), 3),
        (lambda model: ac.MultiBounce(model, heads="each"), 3),
    ],
)
def test_methods_that_read_the_chain_alone_keep_one_map(method: Any, layers: int) -> None:
    model, ids = small.llama(), small.ids()
    built = method(model)
    read = built.read(Call(ids))
    assert len(read) == layers
    maps = built.captured_maps
    expected = built.score(ac.capture(model, ids, maps=maps))
    assert torch.allclose(built.attribute(ids, output="tokens"), expected.reshape(len(ids), *expected.shape[1:]), atol=1e-6)
