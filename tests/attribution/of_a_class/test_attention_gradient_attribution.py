"""Each class-specific method beside a dense replica of its formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionGradientAttribution
from attnchain_interp.attribution import GradELLM, TransitionAttentionMaps

from ...published import MEAN
from .. import small_models as small
from .replicas import (
    Replica,
    expected_visits,
    eye,
    gmar,
    gradient_attention,
    gradient_multi_bounce,
    gradient_rollout,
    gradient_token_rank,
    one_hot,
)

Build = Callable[..., AttentionGradientAttribution]

UP_TO_5 = torch.tensor([1.0] * 6 + [0]) / 6  # tokens after the target's position are no states

METHODS: dict[str, tuple[Build, Replica]] = {
    "GradientAttention": (ac.GradientAttention, gradient_attention),
    "GradientRollout": (ac.GradientRollout, gradient_rollout),
    "GMAR, l1": (ac.GMAR, gmar(1)),
    "GMAR, l2": (lambda model, start=None: ac.GMAR(model, norm="l2", start=start), gmar(2)),
    "GradientTokenRank": (
        lambda model, start=None: ac.GradientTokenRank(
            model, tokens="all", damping=0.9, personalization=None if start is None else UP_TO_5, **MEAN
        ),
        gradient_token_rank,
    ),
    "GradientMultiBounce": (
        lambda model, start=None: ac.GradientMultiBounce(model, steps=3, start=start, tokens="all", **MEAN),
        gradient_multi_bounce,
    ),
    "ExpectedVisits": (lambda model, start=None: ac.ExpectedVisits(model, start=start, damping=0.9), expected_visits),
}

every_method = pytest.mark.parametrize(("build", "replica"), METHODS.values(), ids=METHODS)


@every_method
@pytest.mark.parametrize(("depth", "heads", "fused"), [(1, 3, True), (2, 1, True), (3, 5, False)])
def test_on_a_vit(build: Build, replica: Replica, depth: int, heads: int, fused: bool) -> None:
    model, images, target = small.vit(depth, heads, fused), small.images(), [3, 1]
    maps, gradients = small.of_vit(model, images, target)
    scores = build(model).attribute(images, torch.tensor(target), output="tokens")
    for row in range(2):
        expected = replica([A[row] for A in maps], [G[row] for G in gradients], one_hot(0, 7))
        assert torch.allclose(scores[row], expected, atol=1e-10)
    assert torch.allclose(build(model, start=4).attribute(images, target, output="grid").flatten(1), _patches(build, model))


def _patches(build: Build, model: Any) -> Tensor:
    """The scores from token 4, computed without a second forward from what one capture found."""
    return build(None, start=4).score(ac.capture_gradients(model, small.images(), target=[3, 1]))[:, 1:]


@every_method
def test_on_an_encoder_with_padding(build: Build, replica: Replica) -> None:
    model, ids, mask = small.bert(), small.ids(), torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    maps, gradients = small.of_transformers(model, [2, 0], input_ids=ids, attention_mask=mask)
    scores = build(model).attribute(ids, [2, 0], mask)
    for row, length in ((0, 7), (1, 5)):
        A, G = ([each[row, :, :length, :length] for each in several] for several in (maps, gradients))
        assert torch.allclose(scores[row, :length], replica(A, G, one_hot(0, length)), atol=1e-10)
    assert not scores[1, 5:].any()
    alone = build(model).attribute(ids[1:, :5], 0)
    assert torch.allclose(scores[1, :5], alone[0], atol=1e-10)


@every_method
def test_on_a_decoder(build: Build, replica: Replica) -> None:
    """The score of one next token at position 5, whose walk starts there."""
    model, ids = small.llama(), small.ids()
    maps, gradients = small.of_transformers(model, [(5, 8)] * 2, input_ids=ids)
    scores = build(model, start=5).attribute(ids, (5, 8))
    for row in range(2):
        A, G = ([each[row, :, :6, :6] for each in several] for several in (maps, gradients))
        assert torch.allclose(scores[row, :6], replica(A, G, one_hot(5, 6)), atol=1e-9)
        assert not scores[row, 6:].any()


def test_a_walk_does_not_start_after_the_target() -> None:
    said = r"token 5 is padding in example 0, or after the position of the target"
    with pytest.raises(ac.AttentionError, match=said):
        ac.GMAR(small.llama(), start=5).attribute(small.ids(), (3, 8))


def test_without_any_evidence_a_walk_stays_where_it_starts() -> None:
    found = ac.capture_gradients(small.vit(), small.images(), target=lambda logits: 0 * logits[:, 0])
    stays = torch.eye(7, dtype=torch.float64)[[0, 0]]
    for method in (ac.ExpectedVisits(), ac.GradientAttention(), ac.GradientRollout()):
        assert torch.equal(method.score(found), stays)
    assert torch.allclose(ac.GMAR().score(found), ac.Rollout().score(found.store)), (
        "heads that matter as little count the same"
    )


def test_layers_are_taken_in_the_order_in_which_they_run() -> None:
    model, images = small.vit(3), small.images()
    for build, _ in METHODS.values():
        straight, mixed = build(model), build(model)
        straight.layers, mixed.layers = [0, 2], [2, 0]
        expected = straight.attribute(images, 1, output="tokens")
        assert torch.equal(mixed.attribute(images, 1, output="tokens"), expected)
        assert torch.allclose(mixed.score(ac.capture_gradients(model, images, target=1)), expected, atol=1e-12)


def test_known_mistakes_of_published_code_are_not_here() -> None:
    """Gradients of backward hooks come last layer first; heads folded into the batch mix examples; rows need keepdim."""
    model, images, target = small.vit(3), small.images(), [3, 1]
    maps, gradients = small.of_vit(model, images, target)
    start = one_hot(0, 7)
    of = [[each[0] for each in several] for several in (maps, gradients)]
    rollout = ac.GradientRollout(model).attribute(images, target, output="tokens")
    reversed_layers = gradient_rollout(of[0], of[1][::-1], start)
    assert not torch.allclose(rollout[0], reversed_layers, atol=1e-4)
    R = eye(of[0][0])
    for A, G in zip(*of, strict=True):
        mixed = ((A * G).mean(0).clamp(min=0) + eye(A)) / 2
        R = mixed / mixed.sum(-1) @ R
    assert not torch.allclose(rollout[0], start @ R, atol=1e-4)
    assert torch.allclose(rollout.sum(1), torch.ones(2, dtype=torch.float64)), "rows sum to one"

    chefer = ac.GradientAttention(model).attribute(images, target, output="tokens")
    folded = gradient_attention([A.flatten(0, 1) for A in maps], [G.flatten(0, 1) for G in gradients], start)
    assert not torch.allclose(chefer, folded.expand(2, -1), atol=1e-4)
    assert not torch.allclose(chefer[1], chefer[0], atol=1e-4), "every example has its own, not that of the first"


STARTED = (ac.GradientAttention, ac.GradientRollout, ac.GMAR, ac.GradientMultiBounce, ac.ExpectedVisits, GradELLM)


@pytest.mark.parametrize("method", [*STARTED, partial(TransitionAttentionMaps, steps=3)])
def test_where_the_class_token_is_not_read_walks_start_at_the_tokens_that_are(method: Any) -> None:
    model, images = small.vit(global_pool="avg", class_token=True), small.images()
    patches = torch.tensor([0.0] + [1 / 6] * 6)
    scores = method(model).attribute(images, 1, output="tokens")
    assert torch.equal(scores, method(model, start=patches).attribute(images, 1, output="tokens"))
    assert (scores != method(model, start="class").attribute(images, 1, output="tokens")).any(-1).all()
    assert (scores.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("method", STARTED)
def test_for_a_masked_token_walks_start_at_its_position(method: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**small.BERT, "num_hidden_layers": 2}
    model, ids = small.sharpened(transformers.BertForMaskedLM(transformers.BertConfig(**sizes))), small.ids(2, 7)
    scores = method(model).attribute(ids, (4, 3), output="tokens")
    assert torch.equal(scores, method(model, start=4).attribute(ids, (4, 3), output="tokens"))
    own = method(model).attribute(ids, [(4, 3), (0, 3)], output="tokens")
    assert torch.equal(own[0], scores[0])
    assert torch.equal(own[1], method(model, start="class").attribute(ids, (0, 3), output="tokens")[1])


@pytest.mark.parametrize(
    "method",
    [
        ac.GradientAttention,
        ac.GradientRollout,
        ac.GMAR,
        ac.LeGrad,
        ac.GradientTokenRank,
        ac.GradientMultiBounce,
        ac.ExpectedVisits,
        GradELLM,
        TransitionAttentionMaps,
    ],
)
@pytest.mark.filterwarnings("ignore:GMAR ranks")
def test_a_function_of_a_decoder_explains_the_text_that_it_reads(method: Any) -> None:
    model = small.llama()
    tokens = model.get_input_embeddings()(small.ids()).detach()
    cut = method(model).attribute(tokens[:, :5], lambda output: output.logits[:, -1, 9], output="tokens")
    scores = method(model).attribute(tokens, lambda output: output.logits[:, 4, 9], output="tokens")
    assert torch.allclose(scores[:, :5], cut, atol=1e-12)
    assert not scores[:, 5:].any()
    assert cut.any(1).all()


def test_a_class_that_a_decoder_reads_before_unmarked_padding() -> None:
    """Classifiers of transformers find the end of a text by its padding, also where no mask says so."""
    torch.manual_seed(0)
    options: dict[str, Any] = {**small.BERT, "num_hidden_layers": 2, "num_labels": 3, "pad_token_id": 0}
    model = small.sharpened(transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**options)))
    ids = torch.nn.functional.pad(small.ids(1, 5), (0, 2))
    for method in (ac.GradientTokenRank(model), ac.GradientMultiBounce(model), GradELLM(model)):
        scores = method.attribute(ids, 1, output="tokens")
        assert torch.allclose(scores[:, :5], method.attribute(ids[:, :5], 1, output="tokens"), atol=1e-10)
        assert not scores[:, 5:].any()
