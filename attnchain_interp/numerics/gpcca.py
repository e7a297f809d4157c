"""Metastable states of one chain by GPCCA: a simplex in an invariant subspace of real Schur vectors.

Source: Reuter, Weber, Fackeldey, Röblitz, Garcia 2018 and Reuter, Fackeldey, Weber 2019 (GPCCA); Deuflhard & Weber 2005 (the
simplex); Röblitz & Weber 2013 (crispness).
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from attnchain_interp.errors import AttentionError

_MOST: Final = 20  # states that k=None may find
_GAIN: Final = 1e-12  # of crispness, below which the optimum is reached
_STEPS: Final = 20  # of linear programs from one start; sharp states take two or three
_EMPTY: Final = 1e-3  # greatest membership below which a state is empty

Floats = NDArray[np.float64]


def memberships(P: Floats, eta: Floats, k: int | None) -> Floats:
    """Returns the memberships χ (state, k) of one chain P (state, state), in order of falling stationary weight.

    Args:
        P: transition probabilities whose rows sum to one in float64.
        eta: (state,), positive weights of the states: the stationary distribution.
        k: the number of metastable states. None takes the largest gap of the spectrum.

    Raises:
        AttentionError: k parts a complex pair of eigenvalues, or eigenvalues that cannot be told apart.
    """
    X = _schur_vectors(P, eta, k)
    starts = (_feasible(X, _inner_simplex(X, eta**power)) for power in (0, 0.5, 1))
    A = max((_crispest(X, start) for start in starts), key=_crispness)
    chi = (X @ A).clip(0)
    chi /= chi.sum(1, keepdims=True)
    return chi[:, np.argsort(-(eta @ chi), kind="stable")]


def _schur_vectors(P: Floats, eta: Floats, k: int | None) -> Floats:
    """Returns X (state, k), an η-orthonormal basis of an invariant subspace of P; its first column is 1.

    D^½ P D^−½ has the eigenvector √η. The other Schur vectors are sought in its complement, so the first is √η to the last
    digit even if 1 is a multiple eigenvalue.
    """
    from scipy.linalg import lapack, schur

    root = np.sqrt(eta)
    mirror = root.copy()
    mirror[0] += np.linalg.norm(root)
    complement = (np.eye(len(P)) - 2 / (mirror @ mirror) * np.outer(mirror, mirror))[:, 1:]
    T, Z = cast("tuple[Floats, Floats]", schur(complement.T @ (root[:, None] * P / root) @ complement, output="real"))
    first = np.concatenate([[True], T.diagonal(-1) == 0])  # whether a block of the Schur form begins here
    blocks = np.split(np.arange(len(T)), np.flatnonzero(first)[1:])
    blocks.sort(key=lambda block: -T[block[0], block[0]])  # both diagonal entries of a complex pair are its real part
    order = np.concatenate(blocks)
    k = _checked(k, T, blocks) if k is not None else _largest_gap(T.diagonal()[order], first[order])
    chosen = np.zeros(len(T), dtype=np.int32)
    chosen[order[: k - 1]] = 1
    _, Z, *_, info = cast("Any", lapack).dtrsen(chosen, T, Z, job="N")
    if info:
        raise AttentionError(f"k={k} parts eigenvalues that are too near to each other to be told apart.", "Use another k.")
    return np.concatenate([np.ones((len(P), 1)), complement @ Z[:, : k - 1] / root[:, None]], 1)


def _checked(k: int, T: Floats, blocks: list[Any]) -> int:
    """Returns k, unless it splits one of the sorted blocks of the Schur form."""
    before = 1
    for block in blocks:
        if before < k < before + len(block):
            i, j = block
            imaginary = np.sqrt(-T[i, j] * T[j, i])
            raise AttentionError(
                f"k={k} would split the complex pair of eigenvalues {T[i, i]:.4g} ± {imaginary:.4g}i.",
                f"Use k={k - 1} or k={k + 1}.",
            )
        before += len(block)
    return k


def _largest_gap(real: Floats, first: NDArray[np.bool_]) -> int:
    """Returns k from the sorted real parts of all eigenvalues but the first, and `first`: where no complex pair is cut."""
    gaps = np.where(first[1:], real[:-1] - real[1:], -1)[: _MOST - 1]  # the gap after λ₂ comes first
    return 2 + int(gaps.argmax()) if (gaps >= 0).any() else 1 + len(real)


def _inner_simplex(X: Floats, weight: Floats) -> Floats:
    """Returns A (k, k) for which XA is the identity on k tokens, each the farthest (weighted) from the hull of the earlier."""
    corners = [int((weight * (X**2).sum(1)).argmax())]
    rest = X - X[corners[0]]
    for _ in range(1, X.shape[1]):
        corners.append(int((weight * (rest**2).sum(1)).argmax()))
        direction = rest[corners[-1]] / np.linalg.norm(rest[corners[-1]])
        rest = rest - np.outer(rest @ direction, direction)
    return np.asarray(np.linalg.inv(X[corners]), np.float64)


def _feasible(X: Floats, A: Floats) -> Floats:
    """Returns A with a first row that makes the least entry of each column of XA 0, scaled so that rows of XA sum to one."""
    A = A.copy()
    A[0] = -(X[:, 1:] @ A[1:]).min(0)
    return A / A[0].sum()


def _crispness(A: Floats) -> float:
    """Returns Σ_j ⟨χ_j, χ_j⟩ / ⟨χ_j, 1⟩ in the η-weighted product: k if every token is in one state."""
    with np.errstate(invalid="ignore"):  # of an empty state: 0 / 0
        return float(((A**2).sum(0) / A[0]).sum())


def _crispest(X: Floats, A: Floats) -> Floats:
    """Returns a feasible A of greatest crispness, uphill from `A`.

    Crispness is a convex function of A, and the feasible A (XA ≥ 0, Σ_j A_j = e₁) are a polytope, so a corner is the maximum.
    Each step solves a linear program: it goes to the corner that is best for the tangent at the last one. By convexity a
    step never goes down. A step that would empty a state is repeated with the greatest membership of each state held.
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron

    k = len(A)
    each = eye_array(k, format="csr")
    least, sums = kron(each, -X, format="csr"), kron(np.ones((1, k)), each, format="csr")
    value, keep = _crispness(A), False
    for _ in range(_STEPS):
        tangent = 2 * A / A[0]
        tangent[0] = 2 - (A**2).sum(0) / A[0] ** 2
        chi = X @ A
        held = np.where(keep & (chi == chi.max(0)), chi, 0)
        best = linprog(
            -tangent.T.ravel(),
            A_ub=least,
            b_ub=-held.T.ravel(),
            A_eq=sums,
            b_eq=np.eye(k)[0],
            bounds=(None, None),
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if best.x is None:
            break
        corner = best.x.reshape(k, k).T
        if not keep and (X @ corner).max(0).min() < _EMPTY:
            keep = True
            continue
        corner = _feasible(X, corner)
        if not _crispness(corner) > value + _GAIN:
            break
        A, value, keep = corner, _crispness(corner), False
    return A
