"""Rows of the solvers: stationary vectors and |λ₂| of many maps at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch

import attnchain_interp as ac
from studies.speed import baseline
from studies.speed.maps import HELD_OUT_SEEDS, make_maps
from studies.speed.measurement import paired
from studies.speed.rows import Bar, Figure, Row

RESIDUAL: Final = Bar(1e-6)
EIGENVALUE: Final = Bar(1e-4)


def against_the_baseline(
    kind: str, layers: int, heads: int, tokens: int, bar: float | None, seeds: Sequence[int], rounds: int = 5
) -> list[Figure]:
    """Speed on the maps of the first seed; accuracy on those of all."""
    timed, *others = (make_maps(kind, layers, heads, tokens, seed).flatten(0, 1) for seed in seeds)
    times = paired(lambda: ac.mixing(timed), lambda: baseline.power_and_eigenvalues(timed), rounds)
    residuals, errors, converged = [], [], []
    for P in (timed, *others):
        found = ac.mixing(P)
        residuals.append(baseline.residual(P, found.stationary))
        errors.append(float((found.second_eigenvalue.double() - baseline.second_eigenvalue(P)).abs().max()))
        converged.append(found.converged.float())
    plain, _ = baseline.power_and_eigenvalues(timed)
    maps = f"the worst of {len(seeds) * len(timed)} maps"
    return [
        times.times_as_fast("speed, baseline = 1", bar),
        Figure("residual", max(residuals), bar=RESIDUAL, note=f"{maps}; baseline {baseline.residual(timed, plain):.2g}"),
        Figure("error of λ₂", max(errors), bar=EIGENVALUE, note=maps),
        Figure("share said to have converged", float(torch.cat(converged).mean())),
    ]


def against_a_forward() -> list[Figure]:
    """All maps of a ViT-B/16 at 224 pixels, against the forward of one image that makes them."""
    import timm

    model = timm.create_model("vit_base_patch16_224", pretrained=False).eval()
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    P = make_maps("vit", 12, 12, 197, HELD_OUT_SEEDS[0]).flatten(0, 1)
    with torch.no_grad():
        return [paired(lambda: ac.mixing(P), lambda: model(image)).times_as_long("time, forward = 1", 0.15)]


def _row(name: str, kind: str, shape: tuple[int, int, int], bar: float | None, sets: int, rounds: int = 5) -> Row:
    layers, heads, tokens = shape
    title = (
        f"π and λ₂ of {layers * heads} {kind} maps of {tokens} tokens in one pass, against 200 damped steps and dense"
        " `eigvals` on the same maps"
    )
    return Row(name, title, partial(against_the_baseline, kind, *shape, bar, HELD_OUT_SEEDS[:sets], rounds))


SMALL, LARGE = (12, 12, 197), (2, 12, 1025)

ROWS: Final = [
    _row("vit-197", "vit", SMALL, 20, 3),
    _row("vit-1025", "vit", LARGE, 45, 1, rounds=3),
    Row("vit-forward", "π and λ₂ of 144 vit maps of 197 tokens, against the forward of ViT-B/16", against_a_forward),
    _row("causal-197", "causal", SMALL, None, 1),
    _row("causal-1025", "causal", LARGE, None, 1, rounds=3),
    _row("smooth-197", "smooth", SMALL, None, 1),
    _row("peaky-197", "peaky", SMALL, 10, 1),
    _row("decomposable-197", "nearly decomposable", SMALL, None, 1),
]
