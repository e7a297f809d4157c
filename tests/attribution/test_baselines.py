"""The baselines of others, each beside a dense replica of its formula."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Role, TokenLayout
from attnchain_interp.chain.maximum_flow import SCALE, maximum_flow


def rollout_replica(maps: Tensor, discard: float, residual: float) -> Tensor:
    """(token, token): the product of r I + (1 − r) A over layers (layer, token, token), token 0 the class token."""
    n = maps.shape[-1]
    product = torch.eye(n, dtype=maps.dtype)
    for A in maps:
        left = A.clone()
        for i in range(n):
            lowest = sorted(range(1, n), key=lambda j: float(A[i, j]))[: int(discard * n)]
            left[i, lowest] = 0
            left[i] = left[i] / left[i].sum()
        product = (residual * torch.eye(n) + (1 - residual) * left) @ product
    return product


@pytest.mark.parametrize("discard", [0.0, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("residual", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_with_fused_heads_beside_a_dense_replica(
    store: AttentionStore, heads: str, residual: float, discard: float
) -> None:
    fuse: dict[str, Any] = {"mean": lambda A: A.mean(1), "max": lambda A: A.amax(1), "min": lambda A: A.amin(1)}
    found = ac.Rollout(heads=heads, discard=discard, residual=residual).score(store)
    for row in range(2):
        expected = rollout_replica(fuse[heads](store.maps()[row]), discard, residual)[0]
        assert torch.allclose(found[row], expected), "every example, not the first alone"
    assert torch.allclose(found.sum(-1), torch.ones(2).double())


def test_rollout_discards_no_column_of_the_start_or_the_class_token(store: AttentionStore) -> None:
    """Four of five entries go, of three that may: those of the class token and of the start are left."""
    row = store.maps()[:, -1].mean(1)[:, 3] * torch.tensor([1, 0, 0, 1, 0])
    found = ac.Rollout(start=3, layers=-1, discard=0.8, residual=0).score(store)
    assert torch.allclose(found, row / row.sum(-1, keepdim=True))


def test_rollout_from_everywhere_discards_in_every_column(logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.text(torch.ones(2, 5)))
    found = ac.Rollout(layers=0, discard=0.8, residual=0).score(store)
    greatest = torch.nn.functional.one_hot(store.maps()[:, 0].mean(1).argmax(-1), 5).double()
    assert torch.allclose(found, greatest.mean(1))


def test_rollout_counts_what_it_discards_among_the_tokens_of_each_example() -> None:
    """The second example is the first one's with two pads; half of four tokens is two, not three."""
    A = (2 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).softmax(-1)
    padded = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    padded[..., :4, :4] = A
    padded[..., 4:, :] = torch.nan
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    for heads in ("mean", "max", "min"):
        method = ac.Rollout(heads=heads, start=1, discard=0.5)
        alone = method.score(AttentionStore.from_maps([A, A]))
        found = method.score(AttentionStore.from_maps([padded, padded], TokenLayout.text(mask)))
        assert torch.allclose(found[:, :4], alone)
        assert not found[:, 4:].any()


def test_a_row_of_which_fusion_leaves_nothing_stays() -> None:
    """Two heads that look at different tokens have no attention in common."""
    apart = torch.stack([torch.eye(3), torch.eye(3).roll(1, 1)])[None]
    assert ac.Rollout(start=1, heads="min").score(AttentionStore.from_maps([apart])).tolist() == [[0, 1, 0]]


def test_rollout_refuses_what_is_no_share() -> None:
    with pytest.raises(ac.AttentionError, match="discard is 1; it is the share of a row that is dropped, from 0 to below 1"):
        ac.Rollout(discard=1)
    with pytest.raises(ac.AttentionError, match="residual is -0.1; it is the probability of staying"):
        ac.Rollout(residual=-0.1)


def exact_flow(capacities: Tensor, start: Tensor, target: int) -> Fraction:
    """The maximum flow in exact fractions, by networkx."""
    layers, n, _ = capacities.shape
    graph = nx.DiGraph()
    graph.add_nodes_from(["source", (layers, target)])
    for i in range(n):
        graph.add_edge("source", (0, i), capacity=Fraction(float(start[i])))
    for layer in range(layers):
        for i in range(n):
            for j in range(n):
                graph.add_edge((layer, i), (layer + 1, j), capacity=Fraction(float(capacities[layer, i, j])))
    return nx.maximum_flow_value(graph, "source", (layers, target), flow_func=nx.algorithms.flow.edmonds_karp)


@given(seed=st.integers(0, 1000), n=st.integers(2, 5), layers=st.integers(1, 3), everywhere=st.booleans())
@settings(max_examples=20)
def test_flow_is_the_exact_one_within_the_stated_rounding(seed: int, n: int, layers: int, everywhere: bool) -> None:
    logits = 3 * torch.randn(layers, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    capacities = (logits.softmax(-1) + torch.eye(n)) / 2
    start = torch.full((n,), 1 / n).double() if everywhere else torch.eye(n).double()[seed % n]
    found = maximum_flow(capacities, start, torch.ones(n, dtype=torch.bool))
    edges = n + layers * n * n
    for target in range(n):
        assert abs(Fraction(float(found[target])) - exact_flow(capacities, start, target)) <= Fraction(edges, 2 * SCALE)


def test_flow_of_one_layer_is_its_row_and_rounding_is_there() -> None:
    third = torch.tensor([[1 / 3, 2 / 3], [0.5, 0.5]], dtype=torch.float64)
    found = maximum_flow(third[None], torch.tensor([1.0, 0]).double(), torch.tensor([True, True]))
    assert 0 < float((found - third[0]).abs().max()) <= 0.5 / SCALE


def test_flow_is_limited_by_the_narrowest_edge() -> None:
    """0 → 1 (.9) → 2 (.2) and 0 → 0 (.1) → 2 (1): .2 + .1 arrive, where rollout has .18 + .1."""
    upper = torch.tensor([[0.1, 0.9, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    lower = torch.tensor([[0, 0, 1], [0.8, 0, 0.2], [1, 0, 0]], dtype=torch.float64)
    found = maximum_flow(torch.stack([upper, lower]), torch.tensor([1.0, 0, 0]), torch.tensor([False, False, True]))
    assert torch.allclose(found, torch.tensor([0, 0, 0.3]).double())


def test_attention_flow_is_the_flow_through_the_maps_with_their_residual(store: AttentionStore) -> None:
    found = ac.AttentionFlow().score(store)
    for row in range(2):
        capacities = (store.maps()[row].mean(1).flip(0) + torch.eye(5)) / 2
        expected = [float(exact_flow(capacities, torch.eye(5).double()[0], target)) for target in range(5)]
        assert torch.allclose(found[row], torch.tensor(expected).double(), atol=1e-7)
    assert torch.equal(ac.AttentionFlow(layers=[2, 0, 1]).score(store), found), "in the order of the model"
    assert torch.allclose(ac.AttentionFlow(layers=1).score(store), ac.Rollout(layers=1).score(store), atol=1e-8)
    assert float(ac.AttentionFlow(start="uniform").score(store).sum()) > float(ac.Rollout(start="uniform").score(store).sum())


def test_attention_flow_among_chosen_tokens(store: AttentionStore) -> None:
    scores = ac.AttentionFlow(start=2, tokens="patch").score(store)
    assert not scores[:, 0].any()
    inside = AttentionStore.from_maps([layer.maps[..., 1:, 1:].double() for layer in _renormalised(store)])
    assert torch.allclose(scores[:, 1:], ac.AttentionFlow(start=1).score(inside), atol=1e-7)


def _renormalised(store: AttentionStore) -> AttentionStore:
    among = [torch.cat([torch.zeros_like(layer.maps[..., :1]), layer.maps[..., 1:]], -1) for layer in store]
    return AttentionStore.from_maps([A / A.sum(-1, keepdim=True) for A in among], store.tokens)


def test_attention_flow_of_thousands_of_tokens_is_refused_at_once() -> None:
    grid = (40, 40)
    maps = torch.full((1, 1, 1601, 1601), 1 / 1601)
    store = AttentionStore.from_maps([maps] * 3, TokenLayout.image(1, grid, [Role.CLASS]))
    with pytest.raises(
        ac.AttentionError, match=r"3 layers, up to 1601 tokens, takes 1.2e\+10 edges .* 14 minutes; .* tokens=…"
    ):
        ac.AttentionFlow().score(store)


@pytest.mark.parametrize("steps", [1, 4, 30])
def test_weighted_page_rank_beside_its_iteration(store: AttentionStore, steps: int) -> None:
    """Zero-TPrune: s ← Aᵀ s in every head from 1/n, then the root of the mean square over heads."""
    found = ac.WeightedPageRank(steps=steps, layers=1).score(store)
    for row in range(2):
        squares = torch.zeros(5, dtype=torch.float64)
        for head in range(3):
            s = torch.full((5,), 0.2, dtype=torch.float64)
            for _ in range(steps):
                s = store.maps()[row, 1, head].T @ s
            squares += s**2 / 3
        assert torch.allclose(found[row], squares.sqrt())


def test_weighted_page_rank_over_heads_and_layers(store: AttentionStore) -> None:
    single = torch.stack([ac.WeightedPageRank(layers=layer).score(store) for layer in range(3)])
    assert torch.allclose(ac.WeightedPageRank().score(store), single.square().mean(0).sqrt())
    each = ac.WeightedPageRank(layers=0, heads="each").score(store)
    weights = ac.head_weights(store, "lambda2", 0, "all")[:, 0]
    assert torch.allclose(
        ac.WeightedPageRank(layers=0, heads="lambda2").score(store), (weights[..., None] * each**2).sum(1).sqrt()
    )
    one = ac.WeightedPageRank(steps=1, heads=[2], layers=0).score(store)
    assert torch.allclose(one, ac.ColumnSum(heads=[2], layers=0, tokens="all").score(store))


@pytest.mark.parametrize("build", [ac.WeightedPageRank, ac.AttentionFlow, lambda: ac.Rollout(heads="max", discard=0.5)])
def test_permuting_patches_permutes_scores(store: AttentionStore, build: Any) -> None:
    order = torch.tensor([0, 3, 1, 4, 2])
    moved = AttentionStore.from_maps([layer.maps[..., order, :][..., order] for layer in store], store.tokens)
    assert torch.allclose(build().score(moved), build().score(store)[:, order], atol=1e-7)
