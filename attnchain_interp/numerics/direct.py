"""Exact solutions: elimination, triangular systems, dense eigenvalues, and the test for irreducibility.

Maps are (chain, token, token); `jump` (chain, token) is where a damped walk lands when it jumps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Operator

_LEAST = 32  # rows of a matrix that MKL factorises in one thread
_BLOCK = 256  # tokens of a triangular operator whose map is built


def solve_dominant(matrices: Tensor, right: Tensor) -> Tensor:
    """Returns X (…, n, m) with matrices (…, n, n) · X = right (…, n, m), where rows or columns are dominated by the diagonal.

    I − M of a substochastic M is such a matrix. It is eliminated by halves, without pivots, which it does not need. MKL's LU
    of larger matrices, which torch calls on a CPU, is wrong or never ends when two run at once: in several threads, or in one
    after `torch.set_num_threads`. Sources: https://github.com/pytorch/pytorch/issues/142815; Demmel, Higham & Schreiber,
    *Stability of block LU factorization*, 1995.
    """
    n, half = matrices.shape[-1], matrices.shape[-1] // 2
    if matrices.is_cuda or n <= _LEAST:
        return torch.linalg.solve_ex(matrices, right)[0]
    up, down = matrices[..., :half, :], matrices[..., half:, :]
    first = solve_dominant(up[..., :half], torch.cat([up[..., half:], right[..., :half, :]], -1))
    passed, known = first.tensor_split([n - half], -1)
    last = solve_dominant(down[..., half:] - down[..., :half] @ passed, right[..., half:, :] - down[..., :half] @ known)
    return torch.cat([known - passed @ last, last], -2)


def inverse_of_dominant(matrices: Tensor) -> Tensor:
    """Returns the inverses of matrices (…, n, n), by halves as `solve_dominant`, whose right side would be half zeros here."""
    n, half = matrices.shape[-1], matrices.shape[-1] // 2
    if matrices.is_cuda or n <= _LEAST:
        return torch.linalg.inv_ex(matrices)[0]
    above, below = matrices[..., :half, half:], matrices[..., half:, :half]
    first = inverse_of_dominant(matrices[..., :half, :half])
    right, left = first @ above, below @ first
    last = inverse_of_dominant(matrices[..., half:, half:] - below @ right)
    found = torch.empty_like(matrices)
    found[..., :half, half:] = corner = -right @ last
    found[..., half:, :half] = -last @ left
    found[..., :half, :half] = first - corner @ left
    found[..., half:, half:] = last
    return found


def solve_damped(maps: Tensor, damping: float, jump: Tensor) -> Tensor:
    """Returns x (chain, token) with x (I − damping · M) = jump in float64. It is not finite where the matrix is singular."""
    system = torch.eye(maps.shape[-1], dtype=torch.float64, device=maps.device) - damping * maps.double().mT
    return solve_dominant(system, jump.double()[..., None])[..., 0]


def solve_triangular(maps: Tensor, damping: float, jump: Tensor, upper: bool) -> Tensor:
    """Returns x as `solve_damped` does, for triangular maps and in their own type."""
    system = maps.mT * -damping
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    return torch.linalg.solve_triangular(system, jump[..., None].to(maps.dtype), upper=not upper)[..., 0]


def solve_triangular_halves(transitions: Operator, damping: float, jump: Tensor, upper: bool) -> Tensor:
    """Returns x as `solve_damped` does, for a triangular operator (…, token, token), without iteration and without its map.

    A token receives mass from later tokens only (upper: from earlier tokens). The later half is therefore solved first; its
    mass is sent on, and the earlier half is solved then. Each half is solved in the same way, down to blocks that are built.
    The cost is about one product with the operator.
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
    """Returns the stationary vector (…, token) of irreducible chains, by elimination of one token after another.

    Nothing is subtracted, so the result is accurate for nearly reducible chains too. Source: Grassmann, Taksar & Heyman 1985.
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
    """Returns |λ₂| (…) of triangular chains, whose eigenvalues are their diagonal (…, token)."""
    ordered = torch.where(states, diagonal, 0)
    return ordered.topk(2, -1).values[..., 1] if ordered.shape[-1] > 1 else torch.zeros_like(ordered[..., 0])


def second_of_spectrum(maps: Tensor) -> Tensor:
    """Returns |λ₂| (…) by a dense eigensolver in float64."""
    if maps.shape[-1] == 1:
        return maps.new_zeros(maps.shape[:-2])
    if torch.is_grad_enabled() and maps.requires_grad:
        differentiated: Any = _Second.apply
        try:
            return differentiated(maps)
        except RuntimeError:  # torch.func takes no such function
            return _second_absolute(maps)
    return _second_absolute(maps)


def _second_absolute(maps: Tensor) -> Tensor:
    return eigenvalues_of(maps.double()).abs().topk(2, -1).values[..., 1].to(maps.dtype)


class _Second(torch.autograd.Function):
    """Gives |λ₂| its gradient by the eigenvectors of λ₂ alone: all of them may be too near to each other to be inverted."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        return _second_absolute(maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        from scipy.linalg import eig

        if torch.is_grad_enabled():
            raise AttentionError("|λ₂| is differentiated once.", "Leave create_graph=True out.")
        (maps,) = ctx.saved_tensors
        found = np.zeros(maps.shape)
        for index in np.ndindex(*maps.shape[:-2]):
            solved: Any = eig(maps[index].double().cpu().numpy(), left=True)
            values, left, right = solved
            second = np.abs(values).argsort()[-2]
            u, v, value = left[:, second].conj(), right[:, second], values[second]
            if value:
                found[index] = (np.outer(u, v) * (value.conj() / abs(value) / (u @ v))).real
        return torch.from_numpy(found).to(maps) * gradients[0][..., None, None]


def eigenvalues_of(matrices: Tensor) -> Tensor:
    """Returns the eigenvalues (…, token), complex. CUDA matrices are solved on the CPU: CUDA has no batched eigensolver."""
    try:
        return torch.linalg.eigvals(matrices.cpu()).to(matrices.device)
    except RuntimeError:  # its QR algorithm stalls on some matrices of low rank, where another build does not
        return torch.from_numpy(np.linalg.eigvals(matrices.detach().cpu().numpy()) + 0j).to(matrices.device)


def require_irreducible(maps: Tensor, states: Tensor) -> None:
    """Refuses a reducible chain (…, token, token): it has several stationary vectors. The message names its closed classes."""
    from scipy.sparse.csgraph import connected_components

    for index in np.ndindex(*states.shape[:-1]):
        inside = states[index].nonzero()[:, 0]
        reached = (maps[index][inside][:, inside] > 0).cpu().numpy()
        count, labels = connected_components(reached, connection="strong")
        if count == 1:
            continue
        members = [inside.cpu().numpy()[labels == label] for label in range(count)]
        closed = [tokens for label, tokens in enumerate(members) if not reached[labels == label][:, labels != label].any()]
        transient = len(inside) - sum(map(len, closed))
        shown = ", ".join(_class_text(tokens) for tokens in sorted(closed, key=lambda tokens: tokens[0])[:4])
        raise AttentionError(
            f"the chain is reducible: {len(closed)} closed {'class' if len(closed) == 1 else 'classes'}"
            f"{f' of chain {list(index)}' if index else ''} ({shown}"
            f"{' …' if len(closed) > 4 else ''}) and {transient} transient tokens, so at damping=1 the walk ends in a closed"
            " class and says nothing about the other tokens. Causal maps are always reducible: their first token absorbs.",
            "Pass damping=0.99, or restrict the chain to one class.",
        )


def _class_text(tokens: np.ndarray) -> str:
    return "{" + ", ".join(map(str, tokens[:6])) + (f", … {len(tokens)} tokens" if len(tokens) > 6 else "") + "}"
