"""Column sums, raw attention, weighted PageRank and the random control, each beside its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore


def test_column_sum(store: AttentionStore, logits: Tensor) -> None:
    expected = logits[..., 1:, 1:].softmax(-1).mean((0, 2)).sum(1) / 4
    assert torch.allclose(ac.ColumnSum().score(store)[:, 1:], expected)


def test_raw_rows_and_columns(store: AttentionStore) -> None:
    maps = store.maps()
    assert torch.allclose(ac.RawAttention().score(store), maps[..., 0, :].mean((1, 2)))
    assert torch.allclose(ac.RawAttention(layers=-1, heads="each").score(store), maps[:, -1, :, 0, :])
    assert torch.allclose(ac.RawAttention(token=2, layers=0).score(store), maps[:, 0].mean(1)[:, 2, :])
    assert torch.allclose(ac.RawAttention(token="center", layers=-1).score(store), maps[:, -1].mean(1)[:, 4, :])
    column = ac.RawAttention(token=-1, select="column", layers=-1, heads=[2]).score(store)
    assert torch.allclose(column, maps[:, -1, 2, :, -1])


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
    weights = ac.head_weights(store, "lambda2", layers=0, tokens="all")[:, 0]
    assert torch.allclose(
        ac.WeightedPageRank(layers=0, heads="lambda2").score(store), (weights[..., None] * each**2).sum(1).sqrt()
    )
    one = ac.WeightedPageRank(steps=1, heads=[2], layers=0).score(store)
    assert torch.allclose(one, ac.ColumnSum(heads=[2], layers=0, tokens="all").score(store))


def test_random_rankings_follow_the_seed(store: AttentionStore) -> None:
    first = ac.RandomRanking(seed=1).score(store)
    assert torch.equal(first, ac.RandomRanking(seed=1).score(store))
    assert not torch.equal(first, ac.RandomRanking(seed=2).score(store))
    assert not first[:, 0].any()
