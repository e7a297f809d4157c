"""Attention maps such as transformers have, made from a seed.

Tokens are a class token and a grid of patches. What a token holds is a handful of plane waves at its place, plus noise, so
that near patches are alike; queries and keys are random projections of it, keys partly like the queries (semantic heads). The
spread of the logits goes from nearly flat rows to peaky ones, and some heads look near by or at the first token.

Settings of a solver may be looked at on `TUNING_SEEDS`; figures come from `HELD_OUT_SEEDS`, on which nothing was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import torch
from torch import Generator, Tensor

TUNING_SEEDS: Final = range(10)
HELD_OUT_SEEDS: Final = range(1000, 1010)
WIDTH: Final = 64  # of a head
_WAVES: Final = 24
_FLOAT: Final = torch.float64


@final
@dataclass(frozen=True)
class Head:
    """The shape of a head's attention.

    Attributes:
        sharpness: 0.03 gives nearly uniform rows, 0.45 peaky ones.
        local: it looks near by, within a reach drawn for the head.
        sink: it looks at the first token more, by an amount drawn for the head.
        causal: no token looks at a later one.
        gap: when given, the tokens fall into two halves that are left so rarely that λ₂ = 1 − gap.
    """

    sharpness: float
    local: bool = False
    sink: bool = False
    causal: bool = False
    gap: float | None = None


def _spaced(low: float, high: float, count: int) -> list[float]:
    """Geometrically spaced from low to high."""
    return torch.logspace(math.log10(low), math.log10(high), count, dtype=_FLOAT).tolist()


def _vit(heads: int) -> list[Head]:
    return [Head(t, local=h % 4 == 1, sink=h % 4 == 2) for h, t in enumerate(_spaced(0.03, 0.45, heads))]


KINDS: Final[dict[str, Callable[[int], list[Head]]]] = {
    "vit": _vit,
    "causal": lambda heads: [replace(head, causal=True) for head in _vit(heads)],
    "smooth": lambda heads: [Head(t) for t in _spaced(0.02, 0.1, heads)],
    "peaky": lambda heads: [Head(t) for t in _spaced(0.4, 2.0, heads)],
    "local": lambda heads: [Head(t, local=True) for t in _spaced(0.03, 0.45, heads)],
    "sink": lambda heads: [Head(t, sink=True) for t in _spaced(0.03, 0.45, heads)],
    "nearly decomposable": lambda heads: [Head(0.05, gap=gap) for gap in _spaced(0.1, 1e-4, heads)],
}


def make_maps(kind: str, layers: int, heads: int, tokens: int, seed: int) -> Tensor:
    """Maps (layer, head, query, key) in float32. Kinds: "vit" mixes smooth, peaky, local and sink heads; see `KINDS`."""
    generator = Generator().manual_seed(seed)
    places = _places(tokens)
    made = [
        [_make_map(head, held, places, generator) for head in KINDS[kind](heads)]
        for held in (_hold(places, generator) for _ in range(layers))
    ]
    return torch.stack([torch.stack(layer) for layer in made])


class QueriesAndKeys(NamedTuple):
    """(batch 1, head, token, 64) each, in float32; logits are their products over 8."""

    query: Tensor
    key: Tensor


def make_queries_and_keys(heads: int, tokens: int, seed: int) -> QueriesAndKeys:
    """Returns the factors of one layer whose heads go from smooth to peaky, neither local nor sinks."""
    generator = Generator().manual_seed(seed)
    held = _hold(_places(tokens), generator)
    pairs = [_project(held, sharpness, generator) for sharpness in _spaced(0.03, 0.45, heads)]
    query, key = (torch.stack(side)[None].float() for side in zip(*pairs, strict=True))
    return QueriesAndKeys(query, key)


def _places(tokens: int) -> Tensor:
    """(token, 2) in [-1, 1]: the class token in the middle, patches on a square grid row by row."""
    side = math.ceil(math.sqrt(tokens - 1))
    line = torch.linspace(-1, 1, side, dtype=_FLOAT)
    return torch.cat([torch.zeros(1, 2, dtype=_FLOAT), torch.cartesian_prod(line, line)[: tokens - 1]])


def _hold(places: Tensor, generator: Generator) -> Tensor:
    """(token, wave): what the tokens of a layer hold."""
    direction, phase = 3 * _normal(generator, 2, _WAVES), 2 * math.pi * _uniform(generator, _WAVES)
    held = torch.sin(places @ direction + phase)
    held[0] = 0.5 * _normal(generator, _WAVES)  # the class token has no place
    return held + 0.3 * _normal(generator, *held.shape)


def _project(held: Tensor, sharpness: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Queries and keys (token, 64) of a head."""
    scale = 4 / math.sqrt(_WAVES)
    alike = held @ _normal(generator, _WAVES, WIDTH) * scale
    other = held @ _normal(generator, _WAVES, WIDTH) * scale
    own = _uniform(generator, 1)
    return sharpness * alike, own * other + (1 - own) * alike / 2


def _make_map(head: Head, held: Tensor, places: Tensor, generator: Generator) -> Tensor:
    query, key = _project(held, head.sharpness, generator)
    logits = query @ key.mT / math.sqrt(WIDTH)
    narrowness, pull = 2 + 12 * _uniform(generator, 1), 4 * _uniform(generator, 1)
    if head.local:
        logits -= narrowness * torch.cdist(places, places).square()
    if head.sink:
        logits[:, 0] += pull
    if head.causal:
        logits.masked_fill_(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
    return (logits.softmax(-1) if head.gap is None else _in_two_halves(logits, head.gap)).float()


def _in_two_halves(logits: Tensor, gap: float) -> Tensor:
    """Every token of the first half leaves it with probability ⅔ gap, of the second with ⅓ gap.

    The halves then form a chain of two states themselves, with the second eigenvalue 1 − ⅔ gap − ⅓ gap.
    """
    second = torch.arange(len(logits)) >= len(logits) // 2
    same = second[:, None] == second
    leave = torch.where(second, gap / 3, 2 * gap / 3).to(logits)[:, None]
    stay, cross = (logits.masked_fill(~there, -torch.inf).softmax(-1) for there in (same, ~same))
    return (1 - leave) * stay + leave * cross


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=_FLOAT)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=_FLOAT)
