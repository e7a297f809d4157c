"""Rows of long prompts: what attribution of one answer token costs beyond the passes that it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn

import attnchain_interp as ac
from studies.speed.contributions import decoder
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


@cache
def prompt() -> tuple[nn.Module, Tensor]:
    """The Llama of `contributions`, and the numbers of a prompt."""
    return decoder()[0], torch.randint(0, 49152, (1, LONG), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def forward(tokens: int = TOKENS) -> Tensor:
    """The logits of the answer."""
    model, ids = prompt()
    return model(ids[:, :tokens], logits_to_keep=1).logits


def forward_and_backward(tokens: int = TOKENS) -> Tensor:
    """The gradient of the answer's logit with respect to the embeddings."""
    model, ids = prompt()
    embedded = model.get_input_embeddings()(ids[:, :tokens]).requires_grad_()  # type: ignore[operator]
    return torch.autograd.grad(model(inputs_embeds=embedded, logits_to_keep=1).logits[0][ANSWER], embedded)[0]


def attribute(build: Callable[[Any], Any], tokens: int = TOKENS) -> Tensor:
    """The scores of a method for the answer."""
    model, ids = prompt()
    method = build(model)
    target = {"target": ANSWER} if method.explains_target else {}
    return method.attribute(ids[:, :tokens], output="tokens", **target)


def times() -> list[Figure]:
    """The time of each method, that of the passes that it needs being 1."""

    def figure(name: str, build: Callable[[Any], Any], passes: Callable[[], Tensor], needed: str, bar: float) -> Figure:
        return paired(lambda: attribute(build), passes, 2).times_as_long(f"time of {name}, {needed} = 1", bar)

    return [
        *(figure(name, build, forward, "forward", BARS[name]) for name, build in METHODS.items()),
        *(figure(name, build, forward_and_backward, "forward and backward", 1.6) for name, build in GRADIENT_METHODS.items()),
    ]


RUNS: Final[dict[str, Callable[[int], Tensor]]] = {
    "forward": forward,
    "backward": forward_and_backward,
    **{name: partial(attribute, build) for name, build in {**METHODS, **GRADIENT_METHODS}.items()},
}


def job(name: str, tokens: int) -> Callable[[], Tensor]:
    RUNS[name](8)
    return lambda: RUNS[name](tokens)


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
