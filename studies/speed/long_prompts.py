"""Rows of long prompts: what attribution of one answer token costs beyond the passes that it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

import attnchain_interp as ac
from studies.speed.contributions import llama, prompt
from studies.speed.measurement import memory_of, paired
from studies.speed.rows import Bar, Figure, Row

TOKENS, LONG = 1955, 8192
ANSWER: Final = -1, 7
METHODS: Final[dict[str, Callable[[Any], Any]]] = {
    "TokenRank of attention": lambda model: ac.TokenRank(model, maps="attention"),
    "MultiBounce of attention": lambda model: ac.MultiBounce(model, maps="attention"),
    "TokenRank of projections": lambda model: ac.TokenRank(model, maps="projection"),
}
GRADIENT_METHODS: Final[dict[str, Callable[[Any], Any]]] = {
    "GradientAttention": ac.GradientAttention,
    "GradientTokenRank": ac.GradientTokenRank,
    "ExpectedVisits": ac.ExpectedVisits,
}
BARS: Final = {"TokenRank of attention": 1.5, "MultiBounce of attention": 1.4, "TokenRank of projections": 2}


@torch.no_grad()
def forward(model: Any, ids: Tensor) -> Tensor:
    """The logits of the answer."""
    return model(ids, logits_to_keep=1).logits


def forward_and_backward(model: Any, ids: Tensor) -> Tensor:
    """The gradient of the answer's logit with respect to the embeddings."""
    embedded = model.get_input_embeddings()(ids).requires_grad_()
    return torch.autograd.grad(model(inputs_embeds=embedded, logits_to_keep=1).logits[0][ANSWER], embedded)[0]


def attribute(build: Callable[[Any], Any], model: Any, ids: Tensor) -> Tensor:
    """The scores of a method for the answer."""
    method = build(model)
    target = {"target": ANSWER} if method.explains_target else {}
    return method.attribute(ids, output="tokens", **target)


def times() -> list[Figure]:
    """The time of each method, that of the passes that it needs being 1."""

    given = llama(), prompt(TOKENS)

    def figure(name: str, build: Callable[[Any], Any], passes: Callable[..., Tensor], needed: str, bar: float) -> Figure:
        ours, theirs = partial(attribute, build, *given), partial(passes, *given)
        return paired(ours, theirs, 2).times_as_long(f"time of {name}, {needed} = 1", bar)

    return [
        *(figure(name, build, forward, "forward", BARS[name]) for name, build in METHODS.items()),
        *(figure(name, build, forward_and_backward, "forward and backward", 1.6) for name, build in GRADIENT_METHODS.items()),
    ]


RUNS: Final[dict[str, Callable[..., Tensor]]] = {
    "forward": forward,
    "backward": forward_and_backward,
    **{name: partial(attribute, build) for name, build in {**METHODS, **GRADIENT_METHODS}.items()},
}


def job(name: str, tokens: int) -> Callable[[], Tensor]:
    model, ids = llama(), prompt(tokens)
    RUNS[name](model, ids[:, :8])
    return lambda: RUNS[name](model, ids)


def memory() -> list[Figure]:
    """Peak memory beyond that of the passes alone."""
    bars = {
        "TokenRank of attention": 300,
        "TokenRank of projections": 300,
        "GradientAttention": 1000,
        "GradientTokenRank": 1000,
    }

    def beyond(name: str) -> float:
        passes = "backward" if name in GRADIENT_METHODS else "forward"
        return (memory_of(job, name, TOKENS).extra - memory_of(job, passes, TOKENS).extra) / 1e6

    return [
        Figure(f"peak memory of {name} beyond the passes through the model", beyond(name), "MB", Bar(bar))
        for name, bar in bars.items()
    ]


def long_memory() -> list[Figure]:
    """Peak memory beyond that of the forward, of `LONG` tokens."""
    alone, found = memory_of(job, "forward", LONG), []
    for name in ("TokenRank of attention", "TokenRank of projections"):
        took = memory_of(job, name, LONG)
        note = f"{took.seconds:.3g} s; the forward {alone.extra / 1e6:.0f} MB, {alone.seconds:.3g} s"
        extra = (took.extra - alone.extra) / 1e6
        found.append(Figure(f"peak memory of {name} beyond the forward", extra, "MB", Bar(2000), note))
    return found


_OF: Final = f"one answer to {TOKENS} tokens, a Llama as SmolLM2-135M"
ROWS: Final = [
    Row("prompt-time", f"`attribute` of {_OF}, against the passes through the model that it needs", times),
    Row("prompt-memory", f"peak memory of `attribute` of {_OF}", memory),
    Row("prompt-long", f"peak memory of `attribute` of one answer to {LONG} tokens, the same Llama", long_memory),
]
