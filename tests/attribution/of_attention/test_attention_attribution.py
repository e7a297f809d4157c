"""Properties that hold for every method of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.store import layer_weights

from ...published import PLAIN
from .. import small_models as small


def test_a_constant_added_to_a_row_of_logits_changes_nothing(store: AttentionStore, logits: Tensor) -> None:
    shifted = AttentionStore.from_maps(list((logits + 3 * logits[..., :1]).softmax(-1)), store.tokens)
    for method in (ac.TokenRank(), ac.MultiBounce(), ac.Rollout(), ac.ColumnSum(), ac.RawAttention()):
        assert torch.allclose(method.score(shifted), method.score(store))


def test_permuting_patches_permutes_scores(store: AttentionStore) -> None:
    order = torch.tensor([0, 3, 1, 4, 2])
    moved = AttentionStore.from_maps([layer.maps[..., order, :][..., order] for layer in store], store.tokens)
    for method in (ac.TokenRank(heads="lambda2"), ac.MultiBounce(), ac.Rollout(), ac.ColumnSum(), ac.RawAttention()):
        assert torch.allclose(method.score(moved), method.score(store)[:, order], atol=1e-9)


@pytest.mark.parametrize("build", [ac.WeightedPageRank, ac.AttentionFlow, lambda: ac.Rollout(heads="max", discard=0.5)])
def test_permuting_patches_permutes_scores_of_other_baselines(store: AttentionStore, build: Any) -> None:
    order = torch.tensor([0, 3, 1, 4, 2])
    moved = AttentionStore.from_maps([layer.maps[..., order, :][..., order] for layer in store], store.tokens)
    assert torch.allclose(build().score(moved), build().score(store)[:, order], atol=1e-7)


@pytest.mark.parametrize("method", [ac.MultiBounce(start="class"), ac.RawAttention()])
def test_a_class_token_that_is_not_there(method: ac.AttentionAttribution, logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)))
    with pytest.raises(ac.AttentionError, match='0 class tokens; "class" needs exactly one'):
        method.score(store)


def test_where_walks_start_when_nothing_is_said(logits: Tensor, causal: AttentionStore, store: AttentionStore) -> None:
    """At the class token; where there is none at the last token of a decoder, and everywhere else in any other model."""
    plain = AttentionStore.from_maps(list(logits.softmax(-1)))
    assert (plain.causal, causal.causal, store.causal) == (False, True, False)
    for build in (ac.MultiBounce, ac.Rollout, ac.AttentionFlow):
        for found, start in ((plain, "uniform"), (causal, "last"), (store, "class")):
            assert torch.equal(build().score(found), build(start=start).score(found))
    last = ac.MultiBounce(steps=1, start="last", **PLAIN).score(causal)
    assert torch.allclose(last, causal.maps().mean((1, 2))[:, -1])


@pytest.mark.parametrize(
    "method", [ac.TokenRank(), ac.Rollout(), ac.Rollout(maps="alti"), ac.WeightedPageRank(), ac.RandomRanking()]
)
def test_something_else_than_a_store_is_refused_by_its_type(method: ac.AttentionAttribution, logits: Tensor) -> None:
    for other in (logits, [logits], None, torch.nn.Linear(1, 1)):
        with pytest.raises(ac.AttentionError, match=rf"(?s)store is of type {type(other).__name__}.*Pass capture\(model, …\)"):
            method.score(other)  # type: ignore[arg-type]


OF_A_MEAN = [ac.TokenRank, ac.MultiBounce, ac.ColumnSum, ac.RawAttention, ac.MetastableStates, ac.WeightedPageRank]


@pytest.mark.parametrize("build", OF_A_MEAN)
def test_layers_are_weighted_and_the_chain_is_balanced(build: Any, store: AttentionStore) -> None:
    """As the method scores the mean chain made by hand."""
    options: dict[str, Any] = {"layers": [1, 2], "layer_weights": [1, 3], "balanced": True}
    found = build(**options).score(store)
    if build is ac.WeightedPageRank:
        by_layer = [ac.WeightedPageRank(layers=k, balanced=True).score(store).square() for k in (1, 2)]
        assert torch.allclose(found, (by_layer[0] / 4 + by_layer[1] * 3 / 4).sqrt())
    else:
        tokens: Any = "all" if build is ac.RawAttention else None
        made = AttentionStore.from_maps([store.chain(**options, tokens=tokens).matrix[:, None]], store.tokens)
        assert torch.allclose(found, build(tokens=tokens, balanced=False).score(made))
    changes: list[dict[str, Any]] = [{"layer_weights": "mean"}, {"balanced": False}]
    for changed in changes if build is not ac.MetastableStates else []:
        assert not torch.allclose(found, build(**options | changed).score(store), atol=1e-3), changed


@pytest.mark.parametrize("causal", ["reverse", "absorb", "drop-first"])
def test_every_causal_policy_takes_the_weights_and_balances(causal: Any, store: AttentionStore) -> None:
    options: dict[str, Any] = {"causal": causal, "layer_weights": "late", "balanced": True}
    found = ac.TokenRank(**options).chain(store).matrix
    later = torch.tensor([[False, False, True, True, True]] * 2)
    weighted = {
        "reverse": lambda **own: store.chain(direction="outgoing", **own),
        "absorb": lambda **own: store.chain(tokens=later, sink="absorb", **own),
        "drop-first": lambda **own: store.chain(tokens=later, **own),
    }[causal]
    assert torch.equal(found, weighted(layer_weights="late", balanced=True).matrix)


@pytest.mark.parametrize("layers", ["all", slice(1, None), [2, 0]])
@pytest.mark.parametrize("weights", ["late", [0.2, 0.8]])
def test_a_selection_is_weighted_alike_from_inputs_and_from_a_store(layers: Any, weights: Any) -> None:
    """Only the chosen layers are captured; their depth in the model and their order are known all the same."""
    model, images = small.vit(3), small.images()
    if layers == "all":
        weights = "late" if weights == "late" else [0.1, 0.2, 0.7]
    method = ac.MultiBounce(model, layers=layers, layer_weights=weights)
    assert torch.allclose(method.attribute(images, output="tokens"), method.score(ac.capture(model, images)))


@pytest.mark.parametrize("layers", [[2, 1], ["layers.1.self_attn", "layers.2.self_attn"]])
def test_the_depth_of_a_layer_is_known_in_any_model(layers: Any) -> None:
    """Also in a model inside another one, whose layers have longer names there."""
    late = [[pytest.approx(1 / 3), pytest.approx(2 / 3)]]
    block = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    plain = torch.nn.TransformerEncoder(block, 3, enable_nested_tensor=False).eval()
    reading = ac.Reading(tokens=ac.TokenLayout.text())
    assert layer_weights(ac.capture(plain, torch.rand(1, 5, 8), layers=layers, reading=reading)).tolist() == late
    inside = torch.nn.Sequential(small.vit(3))
    assert layer_weights(ac.capture(inside, small.images(1), layers=slice(1, None))).tolist() == late


@pytest.mark.parametrize(
    "build", [ac.TokenRank, ac.MultiBounce, ac.ColumnSum, ac.WeightedPageRank, ac.Rollout, ac.AttentionFlow]
)
def test_contributions_are_captured_where_they_are_asked_for(build: Any) -> None:
    model, ids = small.llama(), small.ids(1)
    for maps in ("norm", "norm-res", "norm-resln", "projection", "alti"):
        found = build(model, maps=maps, layers=[0, 2]).attribute(ids, output="tokens")
        contributions = ac.capture(model, ids, maps=maps, layers=[0, 2])
        assert torch.equal(found, build(layers="all").score(contributions)), "a store is scored as it is"
        attention = build(model, maps="attention", layers=[0, 2]).attribute(ids, output="tokens")
        assert not torch.allclose(found, attention, atol=1e-3)


def test_other_maps_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match="maps='values' is unknown"):
        ac.TokenRank(maps="values")  # type: ignore[arg-type]


def test_a_row_of_cross_attention_keeps_the_settings(store: AttentionStore) -> None:
    method = ac.RawAttention(layers=[0, 2], layer_weights=[1, 3], balanced=True, tokens="patch")
    start = torch.tensor([0.5, 0.5, 0, 0, 0], dtype=torch.float64)
    found = method.started_at(start, store).score(store)
    chain = store.chain([0, 2], layer_weights=[1, 3], balanced=True)
    assert torch.allclose(found, ac.bounce(chain, start, steps=1))


def planted(sinks: list[int], logits: Tensor) -> AttentionStore:
    """Layers (layer, batch, head, token, token) in which every token attends to another token of its own."""
    layers = []
    for k, (sink, found) in enumerate(zip(sinks, logits, strict=True)):
        found[..., sink] += 5
        layers.append(ac.LayerAttention(str(k), found.softmax(-1), value_norms=torch.ones(found.shape[:-1])))
    return AttentionStore(layers, ac.TokenLayout.text(torch.ones(len(logits[0]), logits.shape[-1])))


@pytest.mark.parametrize(
    "method",
    [
        ac.TokenRank,
        ac.MultiBounce,
        ac.ColumnSum,
        ac.Rollout,
        ac.AttentionFlow,
        ac.WeightedPageRank,
        ac.RandomRanking,
        lambda **given: ac.Rollout(heads="max", **given),
        lambda **given: ac.TokenRank(heads="lambda2", layer_weights="lambda2", balanced=True, **given),
        lambda **given: ac.TokenRank(causal="absorb", **given),
    ],
)
def test_sinks_of_any_layer_are_left_out_of_all(method: Any) -> None:
    """A product of layers needs the same states in each, also where the layers have other sinks."""
    store = planted([1, 4], torch.randn(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) / 5)
    rest = ~torch.isin(torch.arange(8), torch.tensor([1, 4]))[None]
    assert torch.equal(~ac.sinks(store).tokens, rest)
    found = method(tokens="no-sinks").score(store)
    assert torch.allclose(found, method(tokens=rest).score(store))
    assert not found[~rest].any()
    if method is not ac.RandomRanking:
        one = method(tokens="no-sinks", layers="0").score(store)
        assert torch.allclose(one, method(tokens=torch.arange(8)[None] != 1, layers="0").score(store))


def test_attribute_leaves_sinks_out_as_score_does() -> None:
    store = planted([1, 4], torch.randn(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) / 5)
    for layers in ("all", [1], ["0"]):
        method = ac.TokenRank(lambda _: store, layers=layers, tokens="no-sinks")
        assert torch.allclose(method.attribute(torch.zeros(1, 8), output="tokens"), method.score(store))
    with pytest.raises(ac.AttentionError, match="(?s)'no-sinks' is not a token role.*store.chain"):
        store.tokens.select("no-sinks")


@pytest.mark.parametrize("heads", [[0, 2], [0], "each", "lambda2", lambda maps: maps.amax((-2, -1))])
def test_chosen_heads_of_a_text_are_those_of_attention(heads: Any) -> None:
    """Contributions, which texts are read by, hold one map of all heads."""
    model = small.llama()
    found = ac.TokenRank(model, heads=heads).attribute(small.ids(1), output="tokens")
    assert torch.equal(found, ac.TokenRank(model, heads=heads, maps="attention").attribute(small.ids(1), output="tokens"))
    assert not torch.allclose(found, ac.TokenRank(model).attribute(small.ids(1), output="tokens"), atol=1e-4)
    with pytest.raises(ac.AttentionError, match="contributions hold one map of all heads"):
        ac.TokenRank(model, heads=heads, maps="alti").attribute(small.ids(1), output="tokens")


@pytest.mark.parametrize("method", [ac.TokenRank, ac.MultiBounce, ac.LogitTokenRank])
def test_sinks_of_a_text_are_those_of_attention(method: Any) -> None:
    """Contributions, which texts are read by, tell no sinks."""
    model, ids = small.llama(), small.ids(1)
    found = method(model, tokens="no-sinks").attribute(ids, (-1, 7), output="tokens")
    given = method(model, tokens="no-sinks", maps="attention").attribute(ids, (-1, 7), output="tokens")
    assert torch.equal(found, given)
    with pytest.raises(ac.AttentionError, match="the lengths of the values .* are not known"):
        method(model, tokens="no-sinks", maps="alti").attribute(ids, (-1, 7), output="tokens")
