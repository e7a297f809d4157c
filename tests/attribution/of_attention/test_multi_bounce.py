"""MultiBounce beside products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore


def test_multi_bounce_from_the_class_token(store: AttentionStore, logits: Tensor) -> None:
    """The class token's row over the patches, then steps among patches only."""
    P = logits[2, ..., 1:, 1:].softmax(-1).mean(1)
    entry = logits[2, :, :, 0, 1:].softmax(-1).mean(1)
    expected = entry[:, None] @ P @ P
    scores = ac.MultiBounce(steps=3, layers=-1).score(store)
    assert torch.allclose(scores[:, 1:], expected[:, 0])
    assert torch.equal(ac.MultiBounce(steps=0).score(store)[0], torch.eye(5, dtype=torch.float64)[0])


def test_many_bounces_tend_to_token_rank(store: AttentionStore) -> None:
    assert torch.allclose(ac.MultiBounce(steps=300).score(store), ac.TokenRank(damping=1).score(store), atol=1e-6)


def test_multi_bounce_from_distributions(store: AttentionStore) -> None:
    each = torch.tensor([[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1]])
    scores = ac.MultiBounce(steps=1, start=each).score(store)
    P = store.chain().matrix
    assert torch.allclose(scores[0], (P[0, 1] + P[0, 2]) / 2)
    assert torch.allclose(scores[1], P[1, 4])
    assert torch.allclose(ac.MultiBounce(steps=1, start=each, heads="each").score(store).mean(1), scores, atol=1e-12)
    assert torch.allclose(ac.MultiBounce(steps=1, start="uniform").score(store), ac.ColumnSum().score(store))
