"""TokenRank beside the eigenvectors and powers of the damped chain, and its policies in a decoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore


def test_token_rank_is_the_eigenvector_of_the_damped_patch_chain(store: AttentionStore, logits: Tensor) -> None:
    P = 0.9 * logits[..., 1:, 1:].softmax(-1).mean((0, 2)) + 0.1 / 4
    scores = ac.TokenRank(damping=0.9).score(store)
    for row in range(2):
        power = torch.linalg.matrix_power(P[row], 200)
        assert torch.allclose(scores[row, 1:], power[0])
    assert not scores[:, 0].any()


def test_token_rank_with_a_personalization(store: AttentionStore) -> None:
    v = torch.tensor([0, 1.0, 0, 0, 0], dtype=torch.float64)
    P = store.chain().matrix[0, 1:, 1:]
    scores = ac.TokenRank(damping=0.5, personalization=v).score(store)[0, 1:]
    series = sum(0.5 * 0.5**n * torch.linalg.matrix_power(P, n)[0] for n in range(60))
    assert torch.allclose(scores, torch.as_tensor(series))


def test_causal_policies_beside_their_formulas(causal: AttentionStore) -> None:
    maps = causal.maps().mean((1, 2))
    for row, first in ((0, 0), (1, 2)):
        P = maps[row, first:, first:]
        n = len(P)
        damped = torch.linalg.matrix_power(0.9 * P + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="damp").score(causal)[row, first:], damped)

        end = torch.eye(n, dtype=torch.float64)[-1]
        restarted = torch.linalg.matrix_power(0.5 * P + 0.5 * end, 300)[0]
        for method in (ac.TokenRank(), ac.TokenRank(causal="last"), ac.TokenRank(damping=0.5, causal="last")):
            assert torch.allclose(method.score(causal)[row, first:], restarted), "what a decoder gets unless told otherwise"

        heads = causal.maps()[row, ..., first + 1 :, first + 1 :]
        later = (heads / heads.sum(-1, keepdim=True)).mean((0, 1))
        dropped = torch.linalg.matrix_power(0.9 * later + 0.1 / (n - 1), 300)[0]
        scores = ac.TokenRank(damping=0.9, causal="drop-first").score(causal)[row]
        assert torch.allclose(scores[first + 1 :], dropped)
        assert not scores[: first + 1].any()

        backward = (P / P.sum(0)).T
        reverse = torch.linalg.matrix_power(0.9 * backward + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="reverse").score(causal)[row, first:], reverse)

        visits = torch.full((n - 1,), 1 / (n - 1), dtype=torch.float64) @ torch.linalg.inv(
            torch.eye(n - 1).double() - P[1:, 1:]
        )
        scores = ac.TokenRank(causal="absorb").score(causal)[row]
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
