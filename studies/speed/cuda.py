"""Rows that need a CUDA device: long factored chains, and the solver on many small maps."""

from __future__ import annotations

import statistics
from typing import Final

import torch
from torch import Tensor

import attnchain_interp as ac
from studies.speed import baseline
from studies.speed.maps import HELD_OUT_SEEDS, make_maps, make_queries_and_keys
from studies.speed.measurement import seconds_and_peak, seconds_of
from studies.speed.rows import Bar, Figure, Row

SEED: Final = HELD_OUT_SEEDS[0]
HEADS: Final = 8


def factors(tokens: int, dtype: torch.dtype) -> ac.Factors:
    query, key = make_queries_and_keys(HEADS, tokens, SEED)
    return ac.Factors(query.to("cuda", dtype), key.to("cuda", dtype))


def long_and_half() -> list[Figure]:
    """Time and memory at 131,072 tokens; the error, against float32 on the same rounded factors, at 8,192."""
    small = factors(8192, torch.bfloat16)
    half = ac.stationary(small)
    full = ac.stationary(ac.Factors(small.query.float(), small.key.float()))
    error = float((half.double() - full.double()).abs().sum(-1).max())
    large = factors(131_072, torch.bfloat16)
    seconds, peak = seconds_and_peak(lambda: ac.stationary(large))
    return [
        Figure("time", seconds, "s", Bar(60)),
        Figure("peak extra memory", peak / 1e6, "MB", Bar(4000)),
        Figure("L1 error at 8,192 tokens", error, bar=Bar(2e-3), note="against float32"),
    ]


def long_and_exact() -> list[Figure]:
    made = factors(32_768, torch.float32)
    ac.stationary(factors(256, torch.float32))
    found: list[Tensor] = []
    seconds, peak = seconds_and_peak(lambda: found.append(ac.stationary(made)))
    residual = baseline.factored_residual(made.query[0], made.key[0], found[0][0])
    return [
        Figure("residual", residual, bar=Bar(1e-5), note="recomputed in float64, some rows at a time"),
        Figure("time", seconds, "s"),
        Figure("peak extra memory", peak / 1e6, "MB"),
    ]


def many_small_maps() -> list[Figure]:
    P = make_maps("vit", 12, 12, 197, SEED).flatten(0, 1).cuda()
    found = [ac.mixing(P) for _ in range(3)][-1]
    times = [seconds_of(lambda: ac.mixing(P)) for _ in range(20)]
    errors = (found.second_eigenvalue.cpu().double() - baseline.second_eigenvalue(P.cpu())).abs()
    return [
        Figure("time", 1e3 * min(times), "ms", Bar(5), f"least of 20 after 3; median {1e3 * statistics.median(times):.3g} ms"),
        Figure("residual", baseline.residual(P, found.stationary), bar=Bar(1e-6)),
        Figure("error of λ₂", float(errors.max()), bar=Bar(1e-4)),
    ]


ROWS: Final = [
    Row("cuda-long-half", "π of a factored chain of 131,072 tokens, 8 heads × 64, bfloat16", long_and_half, "cuda"),
    Row("cuda-long-exact", "π of a factored chain of 32,768 tokens, 8 heads × 64, float32", long_and_exact, "cuda"),
    Row("cuda-vit-197", "π and λ₂ of 144 vit maps of 197 tokens", many_small_maps, "cuda"),
]
