"""Rows of long prompts: what attribution of one answer token costs beyond the passes that it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
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


def _job(run: Callable[..., Any]) -> Callable[[], Any]:
    run(tokens=8)
    return run


def of_a_forward() -> Callable[[], Any]:
    return _job(forward)


def of_a_backward() -> Callable[[], Any]:
    return _job(forward_and_backward)


def of_token_rank() -> Callable[[], Any]:
    return _job(lambda tokens=TOKENS: attribute(METHODS["TokenRank of attention"], tokens))


def of_projections() -> Callable[[], Any]:
    return _job(lambda tokens=TOKENS: attribute(METHODS["TokenRank of projections"], tokens))


def of_gradient_attention() -> Callable[[], Any]:
    return _job(lambda tokens=TOKENS: attribute(ac.GradientAttention, tokens))


def of_gradient_token_rank() -> Callable[[], Any]:
    return _job(lambda tokens=TOKENS: attribute(ac.GradientTokenRank, tokens))


def memory() -> list[Figure]:
    """Peak memory beyond that of the passes alone."""
    once, twice = memory_of(of_a_forward).extra, memory_of(of_a_backward).extra
    found = [
        ("TokenRank of attention", memory_of(of_token_rank).extra - once, 300),
        ("TokenRank of projections", memory_of(of_projections).extra - once, 300),
        ("GradientAttention", memory_of(of_gradient_attention).extra - twice, 1000),
        ("GradientTokenRank", memory_of(of_gradient_token_rank).extra - twice, 1000),
    ]
    beyond = "beyond the passes through the model"
    return [Figure(f"peak memory of {name} {beyond}", extra / 1e6, "MB", Bar(bar)) for name, extra, bar in found]


def of_a_long_forward() -> Callable[[], Any]:
    return _job(lambda tokens=LONG: forward(tokens))


def of_long_token_rank() -> Callable[[], Any]:
    return _job(lambda tokens=LONG: attribute(METHODS["TokenRank of attention"], tokens))


def of_long_projections() -> Callable[[], Any]:
    return _job(lambda tokens=LONG: attribute(METHODS["TokenRank of projections"], tokens))


def long_memory() -> list[Figure]:
    """Peak memory beyond that of the forward, of `LONG` tokens."""
    alone, found = memory_of(of_a_long_forward), []
    for name, job in (("TokenRank of attention", of_long_token_rank), ("TokenRank of projections", of_long_projections)):
        took = memory_of(job)
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
