"""The walks along evidence: their defaults in a decoder, and rows without evidence."""

from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac

from .. import small_models as small


def test_in_a_decoder_jumps_lead_to_the_last_token_unless_told_otherwise() -> None:
    found = ac.capture_gradients(small.llama(), small.ids(), target=(6, 8))
    last = torch.eye(7, dtype=torch.float64)[-1]
    assert torch.equal(
        ac.GradientTokenRank().score(found), ac.GradientTokenRank(damping=0.5, personalization=last).score(found)
    )
    assert torch.equal(ac.GradientMultiBounce().score(found), ac.GradientMultiBounce(start="last").score(found))
    assert torch.equal(ac.GMAR().score(found), ac.GMAR(start="last").score(found))
    for method in (ac.GradientAttention, ac.GradientRollout, ac.ExpectedVisits):
        assert torch.equal(method().score(found), method(start="uniform").score(found))


def test_rows_without_evidence_keep_their_attention() -> None:
    """In the last layer of a ViT that reads its class token, no other row has any."""
    model, images = small.vit(1), small.images()
    found = ac.capture_gradients(model, images, target=2)
    assert not found.gradients[0][:, :, 1:].any()
    P = found.store.chain().matrix
    rank = ac.GradientTokenRank(damping=0.9).score(found)
    assert torch.allclose(rank, ac.TokenRank(damping=0.9).score(found.store), atol=1e-12), "patches know no class here"
    entry = ac.GradientMultiBounce(steps=1).score(found)
    assert not torch.allclose(entry, P[:, 0], atol=1e-3)
    assert torch.allclose(ac.GradientMultiBounce(steps=2).score(found), (entry[:, None] @ P)[:, 0], atol=1e-12)


def test_visits_that_are_refused() -> None:
    for method in (ac.ExpectedVisits, ac.GradientTokenRank, ac.TokenRank):
        with pytest.raises(ac.AttentionError, match="damping is 2"):
            method(damping=2)
    for method in (ac.GradientMultiBounce, ac.MultiBounce):
        with pytest.raises(ac.AttentionError, match=r"steps is 0\.5"):
            method(steps=0.5)  # type: ignore[arg-type]
    sign = -1  # so that the first token's attention to itself speaks for the score
    found = ac.capture_gradients(small.llama(), small.ids(1), target=lambda output: sign * output.logits[:, 0, 3])
    assert not ac.ExpectedVisits(start=0).score(found)[:, 1:].any()
    with pytest.raises(ac.AttentionError, match="the walk does not end from every state"):
        ac.ExpectedVisits(start=0, damping=1).score(found)


def test_a_store_is_no_gradients() -> None:
    store = ac.capture(small.llama(), small.ids())
    for method in (ac.GradientTokenRank(), ac.GradientAttention()):
        with pytest.raises(ac.AttentionError, match=r"(?s)found is of type AttentionStore.*Pass capture_gradients"):
            method.score(store)  # type: ignore[arg-type]


def test_the_policy_names_the_damping() -> None:
    assert ac.GradientTokenRank().text_policy(None).endswith("ranked as a whole, damping=0.5")
    assert ac.GradientTokenRank(damping=0.7).text_policy(None).endswith("damping=0.7")
    given = ac.GradientTokenRank(personalization=torch.ones(3) / 3).text_policy(None)
    assert given.endswith("damping=0.99")
    assert not given.startswith("jumps lead")
