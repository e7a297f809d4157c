"""Metastable states of one chain by GPCCA: a simplex in an invariant subspace of real Schur vectors.

χ = XA for the basis X of the subspace. The feasible A are a polytope, and crispness is a convex function on it, with a local
maximum at many corners. A walk through the inside of the polytope comes near to a good corner, and linear programs end at it.

Source: Reuter, Weber, Fackeldey, Röblitz, Garcia 2018 and Reuter, Fackeldey, Weber 2019 (GPCCA); Deuflhard & Weber 2005 (the
simplex); Röblitz & Weber 2013 (crispness); Wright, *Primal–Dual Interior-Point Methods*, 1997 (the walk).
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.invariant_subspace import Floats, Product, schur_vectors
from attnchain_interp.operators.shared_setting import SharedSetting

_ONE_THREAD: Final = SharedSetting(partial(threadpool_limits, 1, "blas"))
_GAIN: Final = 1e-4  # of crispness, below which a linear program is the last
_STEPS: Final = 5  # of linear programs; sharp states take two
_INSIDE: Final = 100  # steps of the walk inside; sharp states take a dozen
_MIXED: Final = 0.1  # share of the middle, where all states are alike, in the start of the walk
_SMALLER: Final = 0.3  # by which the mean product of memberships and their multipliers falls in a step
_NEAR: Final = 0.95  # of the way to the boundary that a step goes at most
_GAP: Final = 1e-4  # of crispness, below which the walk ends
_BINDING: Final = 1e-4  # membership below which the walk has met the boundary
_EMPTY: Final = 1e-3  # greatest membership below which a state is empty
_SINGULAR: Final = 1e-6  # ratio of singular values of A below which a state repeats others
_FEASIBLE: Final = 1e-10  # by how much an entry of χ may be below its bound in a linear program
_OPTIONS: Final = {
    "presolve": False,  # takes longer than it saves
    "primal_feasibility_tolerance": _FEASIBLE,
    "dual_feasibility_tolerance": _FEASIBLE,
}
_ADDED: Final = 10  # inequalities that a column of χ adds to a linear program at a time


def memberships(product: Product, eta: Floats, k: int | None) -> Floats:
    """Returns the memberships χ (state, k) of one chain P, in order of falling stationary weight.

    Args:
        product: x (state, m) ↦ Px, for a P whose rows sum to one.
        eta: (state,), positive weights of the states: the stationary distribution.
        k: the number of metastable states, at least 2. None takes the largest gap of the spectrum.

    Raises:
        AttentionError: k parts a complex pair of eigenvalues, or eigenvalues that cannot be told apart; the chain has fewer
            than k metastable states.
    """
    with _ONE_THREAD:  # many small products, which the threads of NumPy's library make slower
        return _memberships(schur_vectors(product, eta, k), eta)


def _memberships(X: Floats, eta: Floats) -> Floats:
    """Returns χ (state, k) from Schur vectors X (state, k)."""
    simplices = sorted({tuple(sorted(_inner_simplex(X, eta**power))) for power in (0, 0.5, 1)})
    starts = np.stack([_feasible(X, np.asarray(np.linalg.inv(X[[*corners]]), np.float64)) for corners in simplices])
    found = [_feasible(X, A) for A in (*_inside(X, starts), *starts)]
    best = max((A for A in found if (X @ A).max(0).min() > _EMPTY and _regular(A)), key=_crispness, default=None)
    if best is None:
        k = X.shape[1]
        raise AttentionError(f"the chain has fewer than {k} metastable states.", f"Pass a k from 1 to {k - 1}.")
    rows = (X @ best < _BINDING) | np.isin(np.arange(len(X)), simplices)[:, None]
    A = _crispest(CrispnessProgram(X, rows), best)
    chi = X[:, 1:] @ A[1:]
    chi -= chi.min(0)  # A is feasible: the least entry of each column is 0, here to the last digit
    chi /= chi.sum(1, keepdims=True)
    return chi[:, np.argsort(-(eta @ chi), kind="stable")]


def _inner_simplex(X: Floats, weight: Floats) -> list[int]:
    """Returns k tokens, each the farthest (weighted) from the hull of the earlier ones."""
    corners = [int((weight * (X**2).sum(1)).argmax())]
    rest = X - X[corners[0]]
    for _ in range(1, X.shape[1]):
        corners.append(int((weight * (rest**2).sum(1)).argmax()))
        direction = rest[corners[-1]] / np.linalg.norm(rest[corners[-1]])
        rest = rest - np.outer(rest @ direction, direction)
    return corners


def _feasible(X: Floats, A: Floats) -> Floats:
    """Returns A with a first row that makes the least entry of each column of XA 0, scaled so that rows of XA sum to one."""
    A = A.copy()
    A[0] = -(X[:, 1:] @ A[1:]).min(0)
    return A / A[0].sum()


def _regular(A: Floats) -> bool:
    """Says whether no state is a combination of the others: the coarse-grained chain needs A⁻¹."""
    lengths = np.linalg.svd(A, compute_uv=False) if np.isfinite(A).all() else np.zeros(1)
    return bool(lengths[-1] > _SINGULAR * lengths[0])


def _crispness(A: Floats) -> float:
    """Returns Σ_j ⟨χ_j, χ_j⟩ / ⟨χ_j, 1⟩ in the η-weighted product: k if every token is in one state."""
    with np.errstate(invalid="ignore"):  # of an empty state: 0 / 0
        return float(((A**2).sum(0) / A[0]).sum())


def _inside(X: Floats, starts: Floats) -> Floats:
    """Returns A (start, k, k) near to corners of great crispness, from feasible `starts`, by a primal–dual interior point.

    Maximised is the tangent of crispness, which changes with each step, under XA ≥ 0 with the multipliers z, and Σ_j A_j = e₁.
    A step of Newton takes χ∘z towards a small common value: H_j ΔA_j = tangent_j + Xᵀ(small / χ_j) − ν with
    H_j = Xᵀ diag(z_j / χ_j) X, and ν for which Σ_j ΔA_j = 0. Equations of all starts and states are solved at once.
    """
    k = X.shape[1]
    unit = np.eye(k)
    A = (1 - _MIXED) * starts + _MIXED / k * unit[0][:, None]
    chi = X @ A
    z = 1 / (len(X) * chi)
    products = torch.from_numpy((X[:, :, None] * X[:, None, :]).reshape(len(X), -1))
    for _ in range(_INSIDE):
        mean = _SMALLER * (chi * z).mean((1, 2), keepdims=True)
        H = (torch.from_numpy(z / chi).mT @ products).reshape(-1, k, k, k).numpy()
        H += 1e-13 * np.trace(H, axis1=-2, axis2=-1)[..., None, None] * unit
        uphill = (_tangent(A) + X.T @ (mean / chi)).mT[..., None]
        with np.errstate(all="ignore"):
            solved = np.linalg.solve(H, np.concatenate([uphill, np.broadcast_to(unit, H.shape)], -1))
            nu = np.linalg.solve(solved[..., 1:].sum(1), solved[..., :1].sum(1))
            step = (solved[..., :1] - solved[..., 1:] @ nu[:, None])[..., 0].mT
            chi_step = X @ step
            z_step = mean / chi - z - z / chi * chi_step
            longest = [
                _NEAR / np.maximum(_NEAR, (-d / of).max((1, 2), keepdims=True)) for d, of in ((chi_step, chi), (z_step, z))
            ]
        after = A + longest[0] * step
        if not np.isfinite(after).all() or not (X @ after).min() > 0:
            break
        A, chi, z = after, X @ after, z + longest[1] * z_step
        if (chi * z).sum((1, 2)).max() < _GAP:
            break
    return A


def _tangent(A: Floats) -> Floats:
    """Returns the gradient of crispness at A (…, k, k)."""
    tangent = 2 * A / A[..., :1, :]
    tangent[..., 0, :] = 2 - (A**2).sum(-2) / A[..., 0, :] ** 2
    return tangent


def _crispest(program: CrispnessProgram, A: Floats) -> Floats:
    """Returns a feasible A of greatest crispness, uphill from `A`.

    Crispness is a convex function of A, and the feasible A (XA ≥ 0, Σ_j A_j = e₁) are a polytope, so a corner is the maximum.
    Each step solves a linear program: it goes to the corner that is best for the tangent at the last one. By convexity a
    step never goes down. A step that would empty a state is repeated with the greatest membership of each state held.
    """
    X = program.X
    value, keep = _crispness(A), False
    for _ in range(_STEPS):
        chi = X @ A
        corner = program.best(_tangent(A), np.where(keep & (chi == chi.max(0)), chi, 0))
        if corner is None:
            break
        if not keep and (X @ corner).max(0).min() < _EMPTY:
            keep = True
            continue
        corner = _feasible(X, corner)
        if not _regular(corner):
            break
        gain = _crispness(corner) - value
        if gain > 0:
            A, value, keep = corner, value + gain, False
        if not gain > _GAIN:
            break
    return A


class CrispnessProgram:
    """The linear program max ⟨tangent, A⟩ over XA ≥ held, Σ_j A_j = e₁, of which few of the (state, k) inequalities bind.

    It is solved with some of them. Those that its solution breaks are added until there is none, so the result is that of
    all. What was added once stays, and the next programs need little more.

    Args:
        X: (state, k), of full rank.
        binding: (state, k) the inequalities that count from the start. Those of one column must have X of full rank, so that
            the program is bounded.
    """

    def __init__(self, X: Floats, binding: NDArray[np.bool_]) -> None:
        self.X, self.binding = X, binding.copy()

    def best(self, tangent: Floats, held: Floats) -> Floats | None:
        """Returns the best A (k, k) for tangent (k, k) and held (state, k), or None where the solver finds none."""
        from scipy.optimize import linprog
        from scipy.sparse import block_diag, eye_array, kron

        k = len(tangent)
        sums, first = kron(np.ones((1, k)), eye_array(k), format="csr"), np.eye(k)[0]
        self.binding |= held > 0
        while True:
            found = linprog(
                -tangent.T.ravel(),
                A_ub=block_diag([-self.X[column] for column in self.binding.T], format="csr"),
                b_ub=-held.T[self.binding.T],
                A_eq=sums,
                b_eq=first,
                bounds=(None, None),
                options=_OPTIONS,
            )
            if found.x is None:
                return None
            A = found.x.reshape(k, k).T
            slack = np.where(self.binding, 0, self.X @ A - held)
            lowest = np.argsort(slack, 0)[:_ADDED]
            lacking = np.take_along_axis(slack, lowest, 0) < -_FEASIBLE
            if not lacking.any():
                return A
            np.put_along_axis(self.binding, lowest, lacking | np.take_along_axis(self.binding, lowest, 0), 0)
