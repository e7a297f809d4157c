"""The baseline of the solvers and the judge of both: plain, dense, without the library."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DAMPING = 0.99


def power_and_eigenvalues(P: Tensor, steps: int = 200) -> tuple[Tensor, Tensor]:
    """π (map, token) by 200 damped steps from the uniform distribution, |λ₂| (map,) by `torch.linalg.eigvals`.

    P is (map, token, token). The steps are batched, and so is `eigvals`, which gives every eigenvalue.
    """
    n = P.shape[-1]
    pi = P.new_full((len(P), 1, n), 1 / n)
    for _ in range(steps):
        pi = DAMPING * (pi @ P) + (1 - DAMPING) / n
    return pi[:, 0], torch.linalg.eigvals(P).abs().topk(2).values[:, 1]


def residual(P: Tensor, pi: Tensor) -> float:
    """The worst ‖πP' − π‖₁ over the maps (map, token, token), in float64; P' jumps uniformly."""
    P, pi = P.double(), pi.double()
    stepped = DAMPING * (pi[:, None] @ P)[:, 0] + (1 - DAMPING) / P.shape[-1]
    return float((stepped - pi).abs().sum(-1).max())


def second_eigenvalue(P: Tensor) -> Tensor:
    """|λ₂| (map,) by `torch.linalg.eigvals` in float64, map by map."""
    return torch.stack([torch.linalg.eigvals(one.double()).abs().topk(2).values[1] for one in P])


def factored_residual(query: Tensor, key: Tensor, pi: Tensor, rows: int = 1024) -> float:
    """`residual` of the map softmax(query keyᵀ / √dim), made in float64 some rows at a time. Vectors (head, token, dim)."""
    query, key, pi = query.double() / math.sqrt(query.shape[-1]), key.double(), pi.double()
    stepped = torch.full_like(pi, (1 - DAMPING) / pi.shape[-1])
    for part, mass in zip(query.split(rows, 1), pi.split(rows, 1), strict=True):
        stepped += DAMPING * (mass[:, None] @ (part @ key.mT).softmax(-1))[:, 0]
    return float((stepped - pi).abs().sum(-1).max())
