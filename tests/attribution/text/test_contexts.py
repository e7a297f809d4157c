"""Contexts in one padded batch beside each of them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import attribution
from attnchain_interp.attribution.text import contexts as module
from attnchain_interp.attribution.text.contexts import contexts, together
from attnchain_interp.gradients import map_gradients

from .. import small_models as small
from .texts import CONCRETE, DECODER, TEXT, rows_of

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "TokenRank": [
        {"causal": "damp", "maps": "attention"},
        {"causal": "drop-first"},
        {"causal": "reverse"},
        {"causal": "absorb", "maps": "attention"},
        {"balanced": 0.5, "layer_weights": "lambda2", "tokens": [0, 2, 3, -2]},
    ],
    "MultiBounce": [{"maps": "attention", "heads": "lambda2"}, {"direction": "outgoing", "balanced": True}],
    "Rollout": [{"discard": 0.5}, {"heads": "max", "residual": "depth"}],
    "GradientTokenRank": [{"damping": 0.9, "tokens": [0, 2, 3, -2]}],
}
CASES = [
    (name, options)
    for name in CONCRETE
    if getattr(attribution, name).allows_padding
    for options in [{}, *OPTIONS.get(name, [])]
]


@pytest.mark.filterwarnings("ignore:.*worse than a random order")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_contexts_together_are_scored_as_each_alone(name: str, options: dict[str, Any]) -> None:
    model, target = small.llama(), "a dog walking"
    method = getattr(attribution, name)(model, **small.FEW.get(name, {}), **options)
    given: dict[str, Any] = {"internal_batch_size": 4} if method.explains_target else {}
    found = method.attribute_text(TEXT, target, DECODER, **given)
    alone = method.changed(allows_padding=False).attribute_text(TEXT, target, DECODER)
    assert torch.allclose(rows_of(found), rows_of(alone), atol=1e-10)
    assert rows_of(found)[0, 9:].eq(0).all()
    assert found.policy == alone.policy


@pytest.mark.filterwarnings("ignore:.*worse than a random order")
@pytest.mark.parametrize("name", CONCRETE)
def test_a_bar_of_the_output_tokens_is_shown_on_request(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "MetastableStates":
        return
    method = getattr(attribution, name)(small.llama(), **small.FEW.get(name, {}))
    shown = []
    for progress in (True, False):
        method.attribute_text("the cat", "a dog", DECODER, internal_batch_size=1, show_progress=progress)
        shown.append(capsys.readouterr().err)
    assert f"{method.get_name()} of output tokens: 100%" in shown[0]
    assert not shown[1]


def test_gradients_in_factors_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, captured = small.llama(), map_gradients.GradientCollector
    whole = ac.GradientTokenRank(model).attribute_text(TEXT, "a dog walking", DECODER)
    monkeypatch.setattr(map_gradients, "GradientCollector", lambda keep, size: captured("factors", size))
    assert torch.allclose(
        rows_of(ac.GradientTokenRank(model).attribute_text(TEXT, "a dog walking", DECODER)), rows_of(whole), atol=1e-8
    )


def test_every_walk_and_every_method_of_maps_and_gradients_takes_padding() -> None:
    takes = {name for name, _ in CASES}
    assert {"TokenRank", "MultiBounce", "Rollout", "GradientTokenRank", "GradientAttention", "ExpectedVisits"} <= takes


def test_contexts_are_a_batch_with_padding() -> None:
    store = ac.capture(small.llama(), small.ids(1))
    found = contexts(store, torch.tensor([2, 4]))
    assert found.tokens.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(found[0].maps[0], store[0].maps[0, :, :4, :4])


@pytest.mark.parametrize("method", [ac.TokenRank(small.llama(), maps="attention"), ac.GradientTokenRank(small.llama())])
def test_contexts_of_a_causal_text_are_not_proved_causal_again(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of a batch of contexts takes as long as its chain."""
    batches, causal = list[int](), ac.LayerAttention.causal
    monkeypatch.setattr(
        ac.LayerAttention, "causal", lambda layer, states: batches.append(len(states)) or causal(layer, states)
    )
    method.attribute_text(TEXT, "a dog walking", DECODER, internal_batch_size=4)
    assert set(batches) == {1}


def test_few_contexts_are_taken_together_where_maps_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.llama()
    store, rank = ac.capture(model, small.ids(1)), ac.TokenRank(model)
    n, heads = len(store.tokens), store[0].heads
    monkeypatch.setattr(module, "_TOGETHER", 2 * heads * n * n)
    assert together(rank, store) == 2
    assert together(ac.RandomRanking(model), store) == 1
    assert together(rank, ac.capture(model, small.ids(1), keep="factors")) == 1
    monkeypatch.setattr(module, "_TOGETHER", 1)
    assert together(rank, store) == 1
