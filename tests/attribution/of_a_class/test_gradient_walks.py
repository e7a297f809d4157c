"""The walks along evidence: their defaults in a decoder, and rows without evidence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.attribution import gradient_chain
from attnchain_interp.gradients import capture_layer_gradients

from ...published import PLAIN
from .. import small_models as small


def test_in_a_decoder_jumps_lead_to_the_last_token_unless_told_otherwise() -> None:
    found = ac.capture_gradients(small.llama(), small.ids(), target=(6, 8))
    last = torch.eye(7, dtype=torch.float64)[-1]
    assert torch.equal(
        ac.GradientTokenRank().score(found), ac.GradientTokenRank(damping=0.3, personalization=last).score(found)
    )
    assert torch.equal(ac.GradientMultiBounce().score(found), ac.GradientMultiBounce(start="last").score(found))
    assert torch.equal(ac.GMAR().score(found), ac.GMAR(start="last").score(found))
    for method in (ac.GradientAttention, ac.GradientRollout, ac.ExpectedVisits):
        assert torch.equal(method().score(found), method(start="uniform").score(found))


def test_rows_without_evidence_keep_their_attention() -> None:
    """In the last layer of a ViT that reads its class token, no other row has any."""
    model, images = small.vit(1), small.images()
    found = ac.capture_gradients(model, images, target=2)
    assert not found.gradient(0)[:, :, 1:].any()
    P = found.store.chain().matrix
    rank = ac.GradientTokenRank(damping=0.9).score(found)
    assert torch.allclose(rank, ac.TokenRank(damping=0.9, **PLAIN).score(found.store), atol=1e-12), (
        "patches know no class here"
    )
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
    assert ac.GradientTokenRank().text_policy(None).endswith("ranked as a whole, damping=0.3")
    assert ac.GradientTokenRank(damping=0.7).text_policy(None).endswith("damping=0.7")
    given = ac.GradientTokenRank(personalization=torch.ones(3) / 3).text_policy(None)
    assert given.endswith("damping=0.99")
    assert not given.startswith("jumps lead")


def test_the_evidence_of_layers_is_weighted() -> None:
    """Beside the formula: W = Σ_l w_l mean_h A ⊙ ReLU(∇A), the rows without evidence by the attention of the same weights."""
    model, images = small.vit(3), small.images()
    found = ac.capture_gradients(model, images, target=2)
    weights = [0, 0.25, 0.75]
    W = sum(w * (A * G.relu()).mean(1) for w, (A, G) in zip(weights, found, strict=True))[:, 1:, 1:]  # type: ignore[call-overload]
    sums, plain = W.sum(-1, keepdim=True), found.store.chain(layer_weights=weights).matrix[:, 1:, 1:]
    expected = torch.where(sums > 0, W / torch.where(sums > 0, sums, 1), plain)
    chain = gradient_chain(found, layer_weights=weights)
    assert torch.allclose(chain.matrix[:, 1:, 1:], expected)
    rank = ac.GradientTokenRank(layer_weights=weights)
    assert torch.allclose(rank.score(found), ac.stationary(chain))
    balanced = ac.GradientTokenRank(layer_weights=weights, balanced=True).score(found)
    assert torch.allclose(balanced, ac.stationary(ac.balance(chain)))
    assert not torch.allclose(balanced, rank.score(found), atol=1e-3)
    bounces = ac.GradientMultiBounce(layer_weights=weights, balanced=True).score(found)
    assert torch.allclose(bounces, ac.bounce(ac.balance(chain), 0))


@pytest.mark.parametrize("build", [ac.GradientTokenRank, ac.GradientMultiBounce, ac.ExpectedVisits, ac.LeGrad])
def test_late_layers_of_a_selection(build: Any) -> None:
    """Only the chosen layers are captured; they weigh by their depth in the model."""
    model, ids = small.llama(), small.ids()
    capture = capture_layer_gradients if build is ac.LeGrad else ac.capture_gradients
    found = capture(model, ids, target=(6, 8))
    by_hand = build(layers=[1, 2], layer_weights=[1 / 3, 2 / 3]).score(found)
    late = build(model, layers=slice(1, None), layer_weights="late")
    assert torch.allclose(late.attribute(ids, (6, 8), output="tokens"), by_hand)
    assert torch.allclose(build(layer_weights="late").score(found), by_hand), "the first layer weighs nothing"
    assert not torch.allclose(build(layers=[1, 2], layer_weights="mean").score(found), by_hand, atol=1e-6)


def test_visits_of_a_balanced_walk() -> None:
    found = ac.capture_gradients(small.llama(), small.ids(), target=(6, 8))
    W = sum((A * G).mean(1) for A, G in zip(*zip(*found, strict=True), strict=True)).relu()  # type: ignore[call-overload]
    Q = 0.9 * W / W.sum(-1).amax(-1)[:, None, None]
    columns = Q / (Q.sum(-2) / torch.arange(7, 0, -1))[:, None].clamp_min(1e-300)
    balanced = columns / columns.sum(-1, keepdim=True).clamp_min(1e-300) * Q.sum(-1, keepdim=True)
    start = torch.full((7,), 1 / 7, dtype=torch.float64)
    expected = torch.linalg.solve(torch.eye(7, dtype=torch.float64) - balanced.mT, start.expand(2, -1))
    assert torch.allclose(ac.ExpectedVisits(damping=0.9, balanced=True).score(found), expected)
    for less in (False, 0.5):
        assert not torch.allclose(ac.ExpectedVisits(damping=0.9, balanced=less).score(found), expected, atol=1e-4)
