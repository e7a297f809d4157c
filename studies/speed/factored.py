"""Rows of factored chains: one step without a map, and the same numbers as with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from studies.speed.maps import HELD_OUT_SEEDS, WIDTH, make_queries_and_keys
from studies.speed.measurement import memory_of, paired, seconds_of
from studies.speed.rows import Bar, Figure, Row

SEED: Final = HELD_OUT_SEEDS[0]
HEADS: Final = 4
TOKENS: Final = 16_384
MEMORY: Final = Bar(128)
AGREEMENT: Final = Bar(1e-5)


def factors(tokens: int) -> ac.Factors:
    return ac.Factors(*make_queries_and_keys(HEADS, tokens, SEED))


def start(tokens: int) -> Tensor:
    """Distributions (1, head, token), drawn at random."""
    return torch.randn(1, HEADS, tokens, generator=torch.Generator().manual_seed(SEED)).softmax(-1)


def step_job() -> Callable[[], Any]:
    """A step of a chain that has been prepared, and has made one."""
    chain, v = ac.chain.as_chain(factors(TOKENS)), start(TOKENS)
    chain.step(v)
    return lambda: chain.step(v)


def prepared_step_job() -> Callable[[], Any]:
    """The preparation of a chain and its first step."""
    ac.chain.as_chain(factors(256)).step(start(256))
    made, v = factors(TOKENS), start(TOKENS)
    return lambda: ac.chain.as_chain(made).step(v)


def attention_job() -> Callable[[], Any]:
    attention(256)()
    return attention(TOKENS)


def attention(tokens: int) -> Callable[[], Tensor]:
    """The fused forward attention of the same shape."""
    query, key = make_queries_and_keys(HEADS, tokens, SEED)
    value = torch.randn(1, HEADS, tokens, WIDTH, generator=torch.Generator().manual_seed(SEED))
    return torch.no_grad()(lambda: F.scaled_dot_product_attention(query, key, value))


def one_step() -> list[Figure]:
    step, whole, forward = memory_of(step_job), memory_of(prepared_step_job), memory_of(attention_job)
    made, v = factors(TOKENS), start(TOKENS)
    with torch.no_grad():
        chain = ac.chain.as_chain(made)
        times = paired(lambda: chain.step(v), attention(TOKENS), 3)
        first = seconds_of(lambda: ac.chain.as_chain(made).step(v))
    note = f"the forward attention {forward.extra / 1e6:.0f} MB, the maps {HEADS * TOKENS**2 * 4 / 1e6:.0f} MB"
    return [
        Figure("peak extra memory of a step", step.extra / 1e6, "MB", MEMORY, note),
        Figure("the same with the preparation of the chain", whole.extra / 1e6, "MB", MEMORY),
        times.times_as_long("time of a step, forward attention = 1", 1.3),
        Figure("the same with the preparation of the chain", first / min(times.theirs), "×", note=f"{first:.3g} s, one call"),
    ]


def agreement() -> list[Figure]:
    """The largest difference of one step, of three and of π, from those of the map made by a plain softmax."""
    query, key = make_queries_and_keys(HEADS, 2048, SEED)
    made, v = ac.Factors(query, key), start(2048)
    dense = (query @ key.mT / WIDTH**0.5).softmax(-1)
    steps = {
        "one step": (ac.bounce(made, v, steps=1), (v[..., None, :] @ dense)[..., 0, :]),
        "three steps": (ac.bounce(made, v, steps=3), (v[..., None, :] @ dense @ dense @ dense)[..., 0, :]),
        "π": (ac.stationary(made), ac.stationary(dense)),
    }
    figures = []
    for name, (own, plain) in steps.items():
        apart = (own.double() - plain.double()).abs()
        note = f"in all {float(apart.sum(-1).max()):.2g}, the largest entry is {float(plain.max()):.2g}"
        figures.append(Figure(f"largest difference of {name}", float(apart.max()), bar=AGREEMENT, note=note))
    return figures


ROWS: Final = [
    Row("factored-step", "one step of a factored chain, 16,384 tokens, 4 heads × 64, float32", one_step),
    Row("factored-agreement", "a factored chain against the dense one, 2,048 tokens, 4 heads × 64, float32", agreement),
]
