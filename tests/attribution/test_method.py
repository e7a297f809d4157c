"""Methods written outside the repository, known to nothing but the hooks, give from texts what ours give."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionAttribution, AttentionGradientAttribution, AttentionStore
from attnchain_interp.attribution import TokenAttribution, gradient_chain
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.store import Start

from ..published import MEAN, PLAIN
from . import small_models as small
from .text.texts import DECODER, ENCODER, SEQ2SEQ, TEXT, bart, rows_of, t5


class Wander(AttentionAttribution):
    """As MultiBounce; its start has another name."""

    def __init__(self, model: Any, hops: int = 2, origin: Any = "class", **shared: Any) -> None:
        super().__init__(model, **shared)
        self.hops, self.origin = hops, origin

    def score(self, store: AttentionStore) -> Tensor:
        chain = self.chain(store)
        row = torch.zeros_like(chain.uniform)
        if isinstance(self.origin, Tensor):
            row = row + self.origin.to(row)
        else:
            row[:, store.tokens.class_token if self.origin == "class" else self.origin] = 1
        for _ in range(self.hops):
            row = (row[:, None] @ chain.matrix)[:, 0]
        return row

    def started_at(self, start: Start, store: AttentionStore) -> Self:
        return self.changed(origin=start)


class Popularity(AttentionAttribution):
    """As ColumnSum: nothing but a score."""

    def score(self, store: AttentionStore) -> Tensor:
        return self.chain(store).matrix.sum(-2) / len(store.tokens)


class Steep(AttentionGradientAttribution):
    """As GradientRollout."""

    has_start: ClassVar[bool] = True
    start: int | Tensor = 0

    def relevance(self, found: Any) -> Tensor:
        product = torch.eye(len(found.tokens), dtype=found[0][0].dtype)
        for maps, gradients in found:
            A = (maps * gradients).mean(1).relu() + torch.eye(maps.shape[-1], dtype=maps.dtype)
            product = A / A.sum(-1, keepdim=True) @ product
        return product[:, self.start]


class Fame(AttentionGradientAttribution):
    """As GradientTokenRank in a decoder: its jumps lead to the last token, so it has no start to move."""

    def __init__(self, model: Any, tokens: Any = None) -> None:
        super().__init__(model)
        self.tokens = tokens

    def relevance(self, found: Any) -> Tensor:
        chain = gradient_chain(found, self.tokens)
        one = torch.eye(len(chain), dtype=chain.dtype)
        jumps = one[-1:].expand(len(chain.matrix), -1) if chain.states[0, -1] else chain.matrix[:, -1]
        return torch.linalg.solve(one - 0.5 * chain.matrix.mT, 0.5 * jumps[..., None])[..., 0]


class Shares(TokenAttribution):
    """As Rollout of contributions, from the base class of all methods: it reads a source of its own."""

    origin: int | Tensor = 0

    def read(self, call: Call) -> AttentionStore:
        positional, named = call.arguments(self.forward_func)
        return ac.capture(self.forward_func, *positional, maps="alti", **named)

    def scores(self, source: AttentionStore, first: int = 0) -> Tensor:
        row: Any = self.origin if isinstance(self.origin, Tensor) else torch.eye(len(source.tokens))[self.origin]
        for layer in reversed(list(source)):
            row = row.to(layer.maps) @ layer.maps[:, 0]
        return row[:, 0] if row.ndim == 3 else row

    def started_at(self, start: Start, store: AttentionStore) -> Self:
        return self.changed(origin=start)


PAIRS: dict[str, tuple[Any, Any]] = {
    "walk": (Wander, partial(ac.MultiBounce, **PLAIN)),
    "walk of one layer": (partial(Wander, hops=3, layers=-1), partial(ac.MultiBounce, steps=3, **PLAIN | {"layers": -1})),
    "walk of chosen tokens": (partial(Wander, tokens=[0, 2, 4]), partial(ac.MultiBounce, tokens=[0, 2, 4], **PLAIN)),
    "no start": (Popularity, ac.ColumnSum),
    "gradient rollout": (Steep, ac.GradientRollout),
    "gradient rank": (Fame, partial(ac.GradientTokenRank, damping=0.5, **MEAN)),
    "gradient rank of chosen tokens": (
        partial(Fame, tokens=[0, 4, -2]),
        partial(ac.GradientTokenRank, tokens=[0, 4, -2], damping=0.5, **MEAN),
    ),
    "contributions": (Shares, partial(ac.Rollout, maps="alti")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_on_a_decoder(name: str) -> None:
    model, (theirs, ours) = small.llama(), PAIRS[name]
    results = [build(model).attribute_text(TEXT, "a dog walking", DECODER, internal_batch_size=3) for build in (theirs, ours)]
    found, expected = map(rows_of, results)
    assert torch.allclose(found, expected, atol=1e-6)
    assert float(expected.max()) > 0.05
    assert torch.equal(*(result.output_probs for result in results))
    if "rank" not in name:  # GradientTokenRank tells where its jumps lead
        assert results[0].policy == results[1].policy


@pytest.mark.parametrize("name", ["walk", "walk of one layer", "walk of chosen tokens", "contributions"])
@pytest.mark.parametrize("build", [bart, t5])
def test_on_an_encoder_decoder(build: Any, name: str) -> None:
    model, (theirs, ours) = build(), PAIRS[name]
    found, expected = (method(model).attribute_text(TEXT, "a dog walking", SEQ2SEQ) for method in (theirs, ours))
    assert torch.allclose(found.token_attr, expected.token_attr, atol=1e-6)
    assert found.policy == expected.policy
    assert "cross-attention" in found.policy


def test_what_has_no_meaning_on_an_encoder_decoder() -> None:
    model = bart()
    with pytest.raises(ac.AttentionError, match="Popularity has no start"):
        Popularity(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    with pytest.raises(ac.AttentionError, match="Steep explains a score"):
        Steep(model).attribute_text(TEXT, "a dog", SEQ2SEQ)


@pytest.mark.parametrize("name", ["walk", "no start", "gradient rollout"])
def test_on_an_encoder(name: str) -> None:
    model, (theirs, ours) = small.bert(), PAIRS[name]
    found, expected = (method(model).attribute_text(TEXT, 2, ENCODER) for method in (theirs, ours))
    assert torch.allclose(found.seq_attr, expected.seq_attr, atol=1e-8)


def test_hooks_that_few_methods_need() -> None:
    seen = []

    class Labels(Popularity):
        is_additive: ClassVar[bool] = False

    class Embedded(Popularity):
        reads_embeddings: ClassVar[bool] = True

        def read(self, call: Call) -> AttentionStore:
            seen.append(call.inputs)
            return super().read(call)

        def text_policy(self, begin: Any) -> str:
            return f"begins at {begin}"

    model = small.llama()
    with pytest.raises(ac.AttentionError, match="Labels gives scores that cannot be summed over output tokens"):
        Labels(model).attribute_text(TEXT, "a dog", DECODER)
    result = Embedded(model).attribute_text(TEXT, "a dog", DECODER)
    assert seen[0].shape == (1, 10, 48)
    assert seen[0].is_floating_point()
    assert result.policy == "begins at None"
    assert torch.allclose(rows_of(result), rows_of(Popularity(model).attribute_text(TEXT, "a dog", DECODER)))


def test_a_copy_with_other_settings() -> None:
    method = ac.MultiBounce(steps=3)
    assert (method.changed(steps=1).steps, method.steps) == (1, 3)
    states = torch.tensor([[True, False]])
    assert method.restricted_to(states).tokens is states
