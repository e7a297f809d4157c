"""Exact solutions for maps that are held: triangular systems, LU, elimination, dense eigenvalues.

Maps are (chain, token, token); `jump` (chain, token) is where a damped walk lands when it jumps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.operators.operator import Operator

_BLOCK = 256  # tokens of a triangular operator whose map is built


def solve_lu(maps: Tensor, damping: float, jump: Tensor) -> Tensor | None:
    """x (chain, token) with x (I − damping · M) = jump in float64; None where the library's LU fails (bad pivots)."""
    system = torch.eye(maps.shape[-1], dtype=torch.float64, device=maps.device) - damping * maps.double().mT
    try:
        found = torch.linalg.solve(system, jump.double()[..., None])[..., 0]
    except RuntimeError:
        return None
    return found if bool(found.isfinite().all()) else None


def solve_triangular(maps: Tensor, damping: float, jump: Tensor, upper: bool) -> Tensor:
    """The same for triangular maps (chain, token, token), in their own type."""
    system = maps.mT * -damping
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    return torch.linalg.solve_triangular(system, jump[..., None].to(maps.dtype), upper=not upper)[..., 0]


def solve_triangular_halves(transitions: Operator, damping: float, jump: Tensor, upper: bool) -> Tensor:
    """The same for a triangular operator (…, token, token): no iteration, and no map.

    What a token receives comes from later tokens alone (upper: from earlier ones), so the later half is solved first, hands
    on what it sends to the earlier, and that is solved then; each half in the same way, down to blocks that are built. All
    in all this costs about one product with the operator.
    """
    n = transitions.shape[-1]
    if n <= _BLOCK:
        return solve_triangular(transitions.dense(), damping, jump, upper)
    early, late = slice(0, n // 2), slice(n // 2, n)
    first, then = (early, late) if upper else (late, early)
    known = solve_triangular_halves(transitions.part(first, first), damping, jump[..., first], upper)
    sent = transitions.part(first, then).left(known[..., None, :])[..., 0, :]
    rest = solve_triangular_halves(transitions.part(then, then), damping, jump[..., then] + damping * sent, upper)
    return torch.cat([known, rest] if upper else [rest, known], -1)


def eliminate(maps: Tensor, states: Tensor) -> Tensor:
    """The stationary vector (…, token) of irreducible chains: tokens leave one by one, the rest censored on them.

    Nothing is subtracted, so it stays accurate for nearly reducible chains. Source: Grassmann, Taksar & Heyman 1985.
    """
    maps = maps.double()
    order = (~states).long().argsort(dim=-1, stable=True)  # states first: the others are never entered and leave first
    rows = maps.gather(-2, order[..., :, None].expand_as(maps))
    P = rows.gather(-1, order[..., None, :].expand_as(maps))
    n = P.shape[-1]
    for k in range(n - 1, 0, -1):
        P[..., :k, k] /= P[..., k, :k].sum(-1, keepdim=True)
        P[..., :k, :k] += P[..., :k, k, None] * P[..., k, None, :k]
    pi = torch.ones_like(P[..., 0])
    for k in range(1, n):
        pi[..., k] = (pi[..., :k] * P[..., :k, k]).sum(-1)
    pi = pi / pi.sum(-1, keepdim=True)
    return torch.empty_like(pi).scatter(-1, order, pi)


def second_of_diagonal(diagonal: Tensor, states: Tensor) -> Tensor:
    """|λ₂| (…) of triangular chains, whose eigenvalues are their diagonal (…, token)."""
    ordered = torch.where(states, diagonal, 0)
    return ordered.topk(2, -1).values[..., 1] if ordered.shape[-1] > 1 else torch.zeros_like(ordered[..., 0])


def second_of_spectrum(maps: Tensor) -> Tensor:
    """|λ₂| (…) by a dense eigensolver; on the CPU also for CUDA maps: there is no batched eigensolver there."""
    if maps.shape[-1] == 1:
        return maps.new_zeros(maps.shape[:-2])
    eigenvalues = torch.linalg.eigvals(maps.cpu() if maps.is_cuda else maps)
    return eigenvalues.abs().topk(2, -1).values[..., 1].to(maps.device)
