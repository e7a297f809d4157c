"""Functions f(P, states) that `reduce_layers` applies to the chains of a layer, in torch alone.

- P: (batch, head, token, token), float32 or wider; rows sum to one over the states and are zero elsewhere. A token that is no
  state keeps its row, so a walk may start there.
- states: (batch, 1, token) bool; padding never is one.
- the result: (batch, head, …), of each head by itself.

They give what the functions of the same names in `attnchain_interp` give, by the shortest exact way.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def stationary(P: Tensor, states: Tensor, damping: float = 0.99, jumps: Literal["uniform", "last"] = "uniform") -> Tensor:
    """The distribution π (batch, head, token) with π = π (damping · P + (1 − damping) · 1 vᵀ): TokenRank.

    v is uniform over the states, or one at the last of them, which in a decoder predicts the next token. Solved exactly in
    float64: by substitution where maps are triangular (causal attention), else by elimination.

    Raises:
        ValueError: damping outside [0, 1) (at 1 there may be many such distributions); jumps other than "uniform" and "last".
    """
    if not 0 <= damping < 1:
        raise ValueError(
            f"damping is {damping}; in a trace it must be at least 0 and below 1 (0.99 is usual). For damping 1 capture the"
            " model and use attnchain_interp.stationary."
        )
    if jumps not in ("uniform", "last"):
        raise ValueError(f"jumps is {jumps!r}; it is 'uniform' or 'last'.")
    inside = P * states[..., None]
    system = inside.mT.double() * -damping
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    v = uniform(states, torch.float64) if jumps == "uniform" else last(states, torch.float64)
    jump = (1 - damping) * v.expand(P.shape[:-1])[..., None]
    found = torch.linalg.solve_triangular(system, jump, upper=True) if triangular(inside) else eliminated(system, jump)
    pi = found[..., 0].clamp_min(0)
    return (pi / pi.sum(-1, keepdim=True)).to(P.dtype)


def token_rank(P: Tensor, states: Tensor, damping: float | None = None, balanced: bool | float = False) -> Tensor:
    """`stationary` as `attnchain_interp.TokenRank` has it: where maps are causal, jumps lead to the last state.

    A damping of None is 0.5 there, and 0.99 for other maps. `balanced`: `balance` the chains first, or the strength of it.

    Raises:
        ValueError: as `stationary` and `balance`.
    """
    P = balance(P, states, float(balanced)) if balanced else P
    if triangular(P * states[..., None]):
        return stationary(P, states, 0.5 if damping is None else damping, "last")
    return stationary(P, states, 0.99 if damping is None else damping)


def balance(P: Tensor, states: Tensor, strength: float = 1.0) -> Tensor:
    """Returns P with each column divided by its mean over the states that can attend to it, then each state's row by its sum.

    The means are taken to the power `strength`, from 0 to 1. A token that is not a state keeps its row.

    Raises:
        ValueError: a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(
            f"strength is {strength}; it must be from 0 to 1: the power of the means by which columns are divided."
        )
    inside = P * states[..., None]
    means = inside.sum(-2)
    means = means / torch.where(causal(inside)[..., None], states.flip(-1).cumsum(-1).flip(-1).clamp_min(1), 1)
    there = means > torch.finfo(P.dtype).tiny
    columns = P * torch.where(there, torch.where(there, means, 1) ** -strength, 0)[..., None, :]
    return torch.where(states[..., None], columns / columns.sum(-1, keepdim=True), P)


def second_eigenvalue(P: Tensor, states: Tensor) -> Tensor:
    """|λ₂| (batch, head): the second largest modulus among the eigenvalues of each chain; 0 for a single state.

    Triangular maps (causal attention) are read off the diagonal, which is exact; others go through the dense eigensolver of
    the CPU, in float64.
    """
    inside = P * states[..., None]
    if triangular(inside):
        moduli = inside.diagonal(dim1=-2, dim2=-1)
    else:
        moduli = torch.linalg.eigvals(inside.double().cpu()).abs().to(P.device, P.dtype)
    return F.pad(moduli, (0, 1)).topk(2).values[..., 1]


def bounce(P: Tensor, states: Tensor, start: int, steps: int = 2) -> Tensor:
    """Returns the distribution after `steps` steps from the token `start`, (batch, head, token): multi-bounce attention.

    Tokens are numbered from either end: in a batch padded on the left, as nnsight pads, −1 is everyone's last.

    Raises:
        ValueError: there is no such token, or a negative number of steps.
    """
    n = P.shape[-1]
    if not -n <= start < n or steps < 0:
        raise ValueError(f"start is {start} and steps {steps}; there are {n} tokens, 0 to {n - 1}, and steps are 0, 1, 2, …")
    v = torch.zeros_like(P[..., :1, :])
    v[..., start] = 1
    with torch.autocast(P.device.type, enabled=False):  # the model's user may have turned it on
        for _ in range(steps):
            v = v @ P
    return v[..., 0, :]


def column_sum(P: Tensor, states: Tensor) -> Tensor:
    """The column sums of each map over the states, divided by the number of states, (batch, head, token)."""
    return (uniform(states, P.dtype)[..., None] * P).sum(-2)


def entropy(P: Tensor, states: Tensor) -> Tensor:
    """The entropy in nats of each map's rows, averaged over the states, (batch, head)."""
    of_rows = -(P * P.clamp_min(torch.finfo(P.dtype).tiny).log()).sum(-1)
    return torch.where(states, of_rows, 0).sum(-1) / states.sum(-1)


def eliminated(system: Tensor, right: Tensor) -> Tensor:
    """Returns X (…, n, m) with system (…, n, n) · X = right (…, n, m), for a system that its diagonal dominates.

    See `solve_dominant` of attnchain_interp/numerics/direct.py: torch's LU of larger matrices hangs on a CPU where several
    threads call it, as the code of traces does.
    """
    n, half = system.shape[-1], system.shape[-1] // 2
    if system.is_cuda or n <= 32:
        return torch.linalg.solve_ex(system, right)[0]
    up, down = system[..., :half, :], system[..., half:, :]
    first = eliminated(up[..., :half], torch.cat([up[..., half:], right[..., :half, :]], -1))
    passed, known = first.tensor_split([n - half], -1)
    rest = eliminated(down[..., half:] - down[..., :half] @ passed, right[..., half:, :] - down[..., :half] @ known)
    return torch.cat([known - passed @ rest, rest], -2)


def uniform(states: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, 1, token): equal probability on every state."""
    return states.to(dtype) / states.sum(-1, keepdim=True)


def last(states: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, 1, token): one at the last state."""
    places = torch.arange(1, states.shape[-1] + 1, device=states.device)
    return F.one_hot((states * places).argmax(-1), states.shape[-1]).to(dtype)


def triangular(P: Tensor) -> bool:
    return bool(causal(P).all())


def causal(P: Tensor) -> Tensor:
    """(batch, head): whether no token leads to a later one."""
    return ~P.triu(1).flatten(-2).any(-1)
