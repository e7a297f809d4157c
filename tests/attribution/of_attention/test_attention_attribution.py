"""Properties that hold for every method of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore


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
    last = ac.MultiBounce(steps=1, start="last").score(causal)
    assert torch.allclose(last, causal.maps().mean((1, 2))[:, -1])


@pytest.mark.parametrize(
    "method", [ac.TokenRank(), ac.Rollout(), ac.ContributionRollout(), ac.WeightedPageRank(), ac.RandomRanking()]
)
def test_something_else_than_a_store_is_refused_by_its_type(method: ac.AttentionAttribution, logits: Tensor) -> None:
    for other in (logits, [logits], None, torch.nn.Linear(1, 1)):
        with pytest.raises(ac.AttentionError, match=rf"(?s)store is of type {type(other).__name__}.*Pass capture\(model, …\)"):
            method.score(other)  # type: ignore[arg-type]
