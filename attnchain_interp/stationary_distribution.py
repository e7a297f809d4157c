"""The stationary distribution of a chain: TokenRank is this vector."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor

from attnchain_interp.chain import Chain, as_chain, check_damping, teleport
from attnchain_interp.errors import AttentionError

_RESIDUAL = 1e-6  # ‖πP − π‖₁ above which no vector is returned
_DIRECT = 4096  # tokens up to which one LU factorisation beats hundreds of steps
_STEPS = 100_000


@overload
def stationary(
    P: Tensor | Chain, damping: float = ..., personalization: Tensor | None = ..., return_residual: Literal[False] = ...
) -> Tensor: ...


@overload
def stationary(
    P: Tensor | Chain, damping: float = ..., personalization: Tensor | None = ..., *, return_residual: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def stationary(
    P: Tensor | Chain,
    damping: float = 0.99,
    personalization: Tensor | None = None,
    return_residual: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The distribution π (…, token) with π P' = π, where P' = damping · P + (1 − damping) · 1 vᵀ.

    Below damping 1 the chain P' has exactly one; it is solved for directly (float64 LU), and by iteration where a
    factorisation is too large or fails. At damping 1 the chain itself must be irreducible; the elimination of
    Grassmann, Taksar and Heyman (1985) is used, which subtracts nothing and so stays accurate for nearly reducible
    chains. Differentiable for damping below 1.

    Args:
        P: (…, token, token) map or `Chain`.
        damping: probability of following the chain rather than jumping.
        personalization: v (…, token), where jumps land; uniform over the states when None.
        return_residual: also return ‖πP' − π‖₁ (…).

    Raises:
        AttentionError: a reducible chain at damping 1 (the message names its closed classes), damping outside [0, 1],
            personalization not a distribution, or no convergence.

    Source: Erel et al. 2025 (TokenRank); Page et al. 1999 (damping).

    >>> stationary(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), damping=1)
    tensor([0.7500, 0.2500])
    """
    chain = as_chain(P)
    check_damping(damping)
    jump = teleport(chain, personalization).double()
    matrix = chain.matrix.double()
    if damping == 1:
        _require_irreducible(chain)
        pi = _eliminate(matrix, chain.states)
    else:
        pi = _solve(matrix, damping, jump) if len(chain) <= _DIRECT else None
        if pi is None or float(_residual(pi, matrix, damping, jump).max()) > _RESIDUAL / 10:
            pi = _iterate(matrix, damping, jump)
    pi = pi.to(chain.matrix.dtype)
    residual = _residual(pi.double(), matrix, damping, jump)
    if not bool((residual <= _RESIDUAL).all()):
        raise AttentionError(
            f"no stationary distribution within ‖πP − π‖₁ ≤ {_RESIDUAL:g} was found (residual {float(residual.max()):.2g} at"
            f" damping {damping}). Lower the damping, for example to 0.99."
        )
    return (pi, residual.to(chain.matrix.dtype)) if return_residual else pi


def _step(pi: Tensor, matrix: Tensor, damping: float, jump: Tensor) -> Tensor:
    return damping * (pi[..., None, :] @ matrix)[..., 0, :] + (1 - damping) * jump


@torch.no_grad()
def _residual(pi: Tensor, matrix: Tensor, damping: float, jump: Tensor) -> Tensor:
    return (_step(pi, matrix, damping, jump) - pi).abs().sum(-1)


def _solve(matrix: Tensor, damping: float, jump: Tensor) -> Tensor | None:
    """π (I − damping · P) = (1 − damping) v by LU; None where the library's LU fails (it may return bad pivots)."""
    system = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - damping * matrix.mT
    try:
        pi = torch.linalg.solve(system, (1 - damping) * jump[..., None])[..., 0]
    except RuntimeError:
        return None
    return pi / pi.sum(-1, keepdim=True)


def _iterate(matrix: Tensor, damping: float, jump: Tensor) -> Tensor:
    """Power iteration; each step shrinks the L1 error at least by the factor `damping`, which bounds their number."""
    pi = jump
    needed = math.ceil(math.log(_RESIDUAL / 100) / math.log(damping)) if damping > 0 else 1
    for _ in range(min(needed, _STEPS)):
        previous, pi = pi, _step(pi, matrix, damping, jump)
        if float((pi - previous).abs().sum(-1).max()) < _RESIDUAL / 100:
            break
    return pi / pi.sum(-1, keepdim=True)


def _eliminate(matrix: Tensor, states: Tensor) -> Tensor:
    """Grassmann–Taksar–Heyman: tokens leave the chain one by one, the rest censored on them; then back again."""
    order = (~states).long().argsort(dim=-1, stable=True)  # states first: the others are never entered and leave first
    rows = matrix.gather(-2, order[..., :, None].expand_as(matrix))
    P = rows.gather(-1, order[..., None, :].expand_as(matrix))
    n = P.shape[-1]
    for k in range(n - 1, 0, -1):
        P[..., :k, k] /= P[..., k, :k].sum(-1, keepdim=True)
        P[..., :k, :k] += P[..., :k, k, None] * P[..., k, None, :k]
    pi = torch.ones_like(P[..., 0])
    for k in range(1, n):
        pi[..., k] = (pi[..., :k] * P[..., :k, k]).sum(-1)
    pi = pi / pi.sum(-1, keepdim=True)
    return torch.empty_like(pi).scatter(-1, order, pi)


def _require_irreducible(chain: Chain) -> None:
    n = len(chain)
    pairs = chain.states[..., :, None] & chain.states[..., None, :]
    step = (chain.matrix > 0) & pairs | torch.eye(n, dtype=torch.bool, device=pairs.device)
    reach = step.float()
    for _ in range(max(1, math.ceil(math.log2(n)))):
        reach = (reach @ reach > 0).float()
    reducible = (pairs & (reach == 0)).flatten(-2).any(-1)
    if not bool(reducible.any()):
        return
    where = reducible.nonzero()[0].tolist()
    reachable, states = reach[tuple(where)].bool(), chain.states[tuple(where)]
    closed = states & (~reachable | reachable.mT).all(-1)
    classes = {tuple(reachable[i].nonzero()[:, 0].tolist()) for i in closed.nonzero()[:, 0].tolist()}
    shown = ", ".join(_class_text(members) for members in sorted(classes)[:4]) + (" …" if len(classes) > 4 else "")
    transient = int(states.sum()) - sum(map(len, classes))
    example = f" of chain {where}" if where else ""
    raise AttentionError(
        f"the chain is reducible: {len(classes)} closed classes{example} ({shown}) and {transient} transient tokens, so at"
        " damping=1 the walk ends in a closed class and says nothing of the other tokens. Causal maps always are: their"
        " first token absorbs. Pass damping=0.99, or restrict the chain to one class."
    )


def _class_text(members: tuple[int, ...]) -> str:
    return "{" + ", ".join(map(str, members[:6])) + (f", … {len(members)} tokens" if len(members) > 6 else "") + "}"
