"""Attention flow beside exact maximum flows by networkx, and on graphs small enough to see their minimum cut."""

from __future__ import annotations

from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Role, TokenLayout
from attnchain_interp.attribution.of_attention.attention_flow import SCALE, maximum_flow
from attnchain_interp.capture import Maps

from .. import small_models as small


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


@pytest.mark.parametrize(("maps", "held"), [("norm", False), ("alti", True)])
def test_contributions_that_hold_the_residual_connection_are_capacities(maps: Maps, held: bool) -> None:
    store = ac.capture(small.vit(), small.images(1), maps=maps)
    C, one = store.maps()[0, :, 0].flip(0), torch.eye(len(store.tokens)).double()
    expected = maximum_flow(C if held else (C + one) / 2, one[0], torch.ones(len(one), dtype=torch.bool))
    assert torch.allclose(ac.AttentionFlow().score(store)[0], expected, atol=1e-8)


def test_attention_flow_among_chosen_tokens(store: AttentionStore) -> None:
    scores = ac.AttentionFlow(start=2, tokens="patch").score(store)
    assert not scores[:, 0].any()
    inside = AttentionStore.from_maps([layer.maps[..., 1:, 1:].double() for layer in _renormalised(store)])
    assert torch.allclose(scores[:, 1:], ac.AttentionFlow(start=1).score(inside), atol=1e-7)


def test_attention_flow_of_thousands_of_tokens_is_refused_at_once() -> None:
    grid = (40, 40)
    maps = torch.full((1, 1, 1601, 1601), 1 / 1601)
    store = AttentionStore.from_maps([maps] * 3, TokenLayout.image(1, grid, prefix=[Role.CLASS]))
    with pytest.raises(
        ac.AttentionError, match=r"(?s)3 layers, up to 1601 tokens, takes 1.2e\+10 edges .* 14 minutes; .* tokens=…"
    ):
        ac.AttentionFlow().score(store)


def _renormalised(store: AttentionStore) -> AttentionStore:
    among = [torch.cat([torch.zeros_like(layer.maps[..., :1]), layer.maps[..., 1:]], -1) for layer in store]
    return AttentionStore.from_maps([A / A.sum(-1, keepdim=True) for A in among], store.tokens)


def test_one_layer_is_a_row() -> None:
    P = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.375, 0.5]])
    for token in range(3):
        start = torch.eye(3)[token]
        assert torch.equal(maximum_flow(P[None], start, torch.ones(3, dtype=torch.bool)), P[token])


def test_the_narrower_layer_decides_and_paths_add_up() -> None:
    """From token 0 two paths lead to token 1: 0.75 and then 0.5, 0.25 and then 1."""
    upper, lower = torch.tensor([[0.75, 0.25], [0.0, 1.0]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    flow = maximum_flow(torch.stack([upper, lower]), torch.tensor([1.0, 0.0]), torch.tensor([False, True]))
    assert flow.tolist() == [0, 0.75], "tokens that are not targets are given 0"


def test_capacities_are_rounded_to_the_scale() -> None:
    third = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    flow = maximum_flow(third[None], torch.eye(3)[0].double(), torch.ones(3, dtype=torch.bool))
    assert 0 < float((flow - 1 / 3).abs().max()) <= 0.5 / SCALE
