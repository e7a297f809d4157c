"""MultiBounce beside products of matrices.

TokenRank beside the eigenvectors and powers of the damped chain, and its policies in a decoder.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.gradients import AttentionGradients

from ...published import MEAN, PLAIN


def test_multi_bounce_from_the_class_token(store: AttentionStore, logits: Tensor) -> None:
    """The class token's row over the patches, then steps among patches only."""
    P = logits[2, ..., 1:, 1:].softmax(-1).mean(1)
    entry = logits[2, :, :, 0, 1:].softmax(-1).mean(1)
    expected = entry[:, None] @ P @ P
    scores = ac.MultiBounce(steps=3, layers=-1, balanced=False).score(store)
    assert torch.allclose(scores[:, 1:], expected[:, 0])
    assert torch.equal(ac.MultiBounce(steps=0).score(store)[0], torch.eye(5, dtype=torch.float64)[0])


def test_many_bounces_tend_to_token_rank(store: AttentionStore) -> None:
    assert torch.allclose(ac.MultiBounce(steps=300).score(store), ac.TokenRank(damping=1).score(store), atol=1e-6)


def test_multi_bounce_from_distributions(store: AttentionStore) -> None:
    each = torch.tensor([[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1]])
    scores = ac.MultiBounce(steps=1, start=each, **PLAIN).score(store)
    P = store.chain().matrix
    assert torch.allclose(scores[0], (P[0, 1] + P[0, 2]) / 2)
    assert torch.allclose(scores[1], P[1, 4])
    assert torch.allclose(ac.MultiBounce(steps=1, start=each, heads="each", **PLAIN).score(store).mean(1), scores, atol=1e-12)
    assert torch.allclose(ac.MultiBounce(steps=1, start="uniform", **PLAIN).score(store), ac.ColumnSum().score(store))


def test_token_rank_is_the_eigenvector_of_the_damped_patch_chain(store: AttentionStore, logits: Tensor) -> None:
    P = 0.9 * logits[..., 1:, 1:].softmax(-1).mean((0, 2)) + 0.1 / 4
    scores = ac.TokenRank(damping=0.9, **PLAIN).score(store)
    for row in range(2):
        power = torch.linalg.matrix_power(P[row], 200)
        assert torch.allclose(scores[row, 1:], power[0])
    assert not scores[:, 0].any()


def test_token_rank_with_a_personalization(store: AttentionStore) -> None:
    v = torch.tensor([0, 1.0, 0, 0, 0], dtype=torch.float64)
    P = store.chain().matrix[0, 1:, 1:]
    scores = ac.TokenRank(damping=0.5, personalization=v, **PLAIN).score(store)[0, 1:]
    series = sum(0.5 * 0.5**n * torch.linalg.matrix_power(P, n)[0] for n in range(60))
    assert torch.allclose(scores, torch.as_tensor(series))


def test_causal_policies_beside_their_formulas(causal: AttentionStore) -> None:
    maps = causal.maps().mean((1, 2))
    for row, first in ((0, 0), (1, 2)):
        P = maps[row, first:, first:]
        n = len(P)
        damped = torch.linalg.matrix_power(0.9 * P + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="damp", **PLAIN).score(causal)[row, first:], damped)

        end = torch.eye(n, dtype=torch.float64)[-1]
        restarted = torch.linalg.matrix_power(0.5 * P + 0.5 * end, 300)[0]
        policies: list[dict[str, Any]] = [{}, {"causal": "last"}, {"causal": "last", "damping": 0.5}]
        for policy in policies:
            found = ac.TokenRank(**policy, **PLAIN).score(causal)[row, first:]
            assert torch.allclose(found, restarted), "the policy of a decoder unless told otherwise"

        heads = causal.maps()[row, ..., first + 1 :, first + 1 :]
        later = (heads / heads.sum(-1, keepdim=True)).mean((0, 1))
        dropped = torch.linalg.matrix_power(0.9 * later + 0.1 / (n - 1), 300)[0]
        scores = ac.TokenRank(damping=0.9, causal="drop-first", **PLAIN).score(causal)[row]
        assert torch.allclose(scores[first + 1 :], dropped)
        assert not scores[: first + 1].any()

        backward = (P / P.sum(0)).T
        reverse = torch.linalg.matrix_power(0.9 * backward + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="reverse", **PLAIN).score(causal)[row, first:], reverse)

        visits = torch.full((n - 1,), 1 / (n - 1), dtype=torch.float64) @ torch.linalg.inv(
            torch.eye(n - 1).double() - P[1:, 1:]
        )
        scores = ac.TokenRank(causal="absorb", **PLAIN).score(causal)[row]
        assert torch.allclose(scores[first + 1 :], visits / visits.sum())
        assert not scores[: first + 1].any()


def test_causal_policies_that_are_refused(causal: AttentionStore) -> None:
    with pytest.raises(ac.AttentionError, match="causal='first' is unknown"):
        ac.TokenRank(causal="first")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="says where jumps lead, and so does personalization"):
        ac.TokenRank(causal="last", personalization=torch.ones(6) / 6)
    with pytest.raises(ac.AttentionError, match="causal='absorb' has its own direction"):
        ac.TokenRank(causal="absorb", direction="outgoing")
    with pytest.raises(ac.AttentionError, match="reducible"):
        ac.TokenRank(damping=1).score(causal)
    with pytest.raises(ac.AttentionError, match="selects nothing in an example"):
        ac.TokenRank(causal="drop-first", tokens=[3]).score(causal)


def test_a_personalization_for_every_head(causal: AttentionStore) -> None:
    v = torch.zeros(2, 6, dtype=torch.float64)
    v[:, 4] = 1
    each = ac.TokenRank(heads="each", layers=0, personalization=v, damping=0.5).score(causal)
    assert each.shape == (2, 2, 6)
    assert torch.allclose(each[:, 1], ac.TokenRank(heads=[1], layers=0, personalization=v, damping=0.5).score(causal))
    began = ac.TokenRank(causal="absorb", personalization=v).score(causal)
    assert not began[:, 5].any(), "walks begin at token 4 and only go back"


def test_a_walk_over_an_image_in_a_text_restarts_at_the_last_token_of_the_text() -> None:
    logits = torch.randn(2, 1, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = logits.masked_fill(~torch.ones(6, 6).tril().bool(), -torch.inf).softmax(-1)
    tokens = ac.TokenLayout(torch.tensor([[3, 2, 2, 2, 3, 3]]))
    store = ac.AttentionStore.from_maps(list(maps), tokens)
    mean = torch.stack([layer[0][:, :, 1:4] / layer[0][:, :, 1:4].sum(-1, keepdim=True) for layer in maps]).mean((0, 1))
    P, v = mean[1:4], mean[5]
    expected = torch.linalg.solve(torch.eye(3, dtype=v.dtype) - 0.5 * P.mT, 0.5 * v)
    scores = ac.TokenRank(**PLAIN).score(store)
    assert torch.allclose(scores[0, 1:4], expected, atol=1e-9)
    assert scores[0, [0, 4, 5]].eq(0).all()
    gradients = AttentionGradients(
        store, [torch.zeros_like(layer) for layer in maps]
    )  # without evidence the walk is attention's
    assert torch.allclose(ac.GradientTokenRank(damping=0.5, **MEAN).score(gradients), scores, atol=1e-6)
