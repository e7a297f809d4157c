"""Factors of every kind, and their maps by the definition."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnchain_interp.operators import Factors

N = 70
TRIL = torch.ones(N, N, dtype=torch.bool).tril()
GENERATOR = torch.Generator().manual_seed(0)
PADDED = torch.rand(2, 1, 1, N, generator=GENERATOR) > 0.3
BIAS = torch.randn(1, 4, N, N, generator=GENERATOR)
SINKS = torch.randn(4, generator=GENERATOR)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": 0.7},
    "causal": {"causal": True},
    "grouped": {"key_heads": 2},
    "one key head, causal": {"key_heads": 1, "causal": True},
    "soft-capped": {"softcap": 5.0},
    "sinks": {"sinks": SINKS},
    "sinks, causal": {"sinks": SINKS, "causal": True},
    "keys masked": {"mask": PADDED},
    "keys masked, causal": {"mask": PADDED | (torch.arange(N) == 0), "causal": True},
    "keys biased": {"mask": torch.randn(N, generator=GENERATOR)},
    "window": {"mask": TRIL & ~TRIL.tril(-9)},
    "bias": {"mask": BIAS},
    "everything": {"mask": BIAS, "softcap": 3.0, "sinks": SINKS, "causal": True, "key_heads": 2},
}
every_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def build(n: int = N, key_heads: int = 4, size: float = 1.5, dtype: torch.dtype = torch.float32, **options: Any) -> Factors:
    generator = torch.Generator().manual_seed(1)
    query = size * torch.randn(2, 4, n, 16, generator=generator)
    key = size * torch.randn(2, key_heads, n, 16, generator=generator)
    return Factors(query.to(dtype), key.to(dtype), **options)


def dense(factors: Factors) -> Tensor:
    """The map in float64, from the definition."""
    query, key = factors.query.double(), factors.key.double()
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if factors.scale is None else factors.scale)
    if factors.softcap:
        logits = factors.softcap * (logits / factors.softcap).tanh()
    if factors.mask is not None and factors.mask.dtype == torch.bool:
        logits = logits.masked_fill(~factors.mask, -torch.inf)
    elif factors.mask is not None:
        logits = logits + factors.mask
    if factors.causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -torch.inf)
    if factors.sinks is None:
        return logits.softmax(-1)
    sink = factors.sinks.double()[:, None, None].expand(*logits.shape[:3], 1)
    return torch.cat([logits, sink], -1).softmax(-1)[..., :-1]
