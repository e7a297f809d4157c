"""Metastable states: sets of tokens that a walk rarely leaves, found by GPCCA, which needs no reversible chain."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.factors import Factors

_MOST = 20  # states that k=None may find
_LEAST_WEIGHT = 1e-12  # stationary weight of a token below which √η spoils the scaled matrix
_GAIN = 1e-12  # of crispness, below which the optimum is reached
_STEPS = 20  # of linear programs from one start; sharp states take two or three
_EMPTY = 1e-3  # greatest membership below which a state is empty

Floats = NDArray[np.float64]


@torch.no_grad()
def metastable_states(P: Tensor | Factors | Chain, k: int | None = None, damping: float = 0.99) -> Tensor:
    """To what share each token belongs to each of k metastable states: soft memberships χ (…, token, k).

    Generalised Perron cluster cluster analysis: the k − 1 eigenvalues of the chain with the largest real part beside the
    first, 1, span with the constant vector an invariant subspace; in it are sought the k vectors that are nowhere negative,
    sum to one at every token, and are as crisp (near to 0 or 1) as can be, weighted by the stationary distribution η. The
    basis is of real Schur vectors, so the chain need not be reversible. Real parts and not moduli count: near +1 the walk
    stays where it is, near −1 or on the unit circle it goes round in cycles.

    η is that of the damped chain, which gives every token a weight and so serves reducible and causal chains. The subspace
    is that of the chain itself; damping would not change it, as all it does is to scale every eigenvalue but the first.

    Crispness has many local maxima where the states are not sharp; this is the best of those uphill from three simplices.

    Computed on the CPU in float64, one chain after the other: a Schur decomposition (some 25 n³ operations) and linear
    programs, which take milliseconds for a few states and seconds for twenty. Not differentiable.

    Args:
        P: (…, token, token) map or `Chain`; `Factors` and factored chains are multiplied out.
        k: how many states; None finds the largest gap of each chain's spectrum: the k from 2 to 20 (and fewer than there
            are tokens, unless that leaves none) with the largest real part of λ_k minus that of λ_k+1.
        damping: of the chain whose stationary distribution η weighs the tokens, as in `stationary`.

    Returns:
        χ in the type of the chain. Every row sums to one; rows of tokens that are no states are zero. The states are in
        order of falling stationary weight (`coarse_grained_stationary`). In a batch with k=None the last axis is as long as
        the largest k, and columns beyond a chain's own k are zero. Where λ_k equals λ_k+1 the answer is one of many.

    Raises:
        AttentionError: k below 1 or above the number of states, or between the two of a complex pair of eigenvalues;
            damping as in `stationary`, or so near to 1 that a token has next to no stationary weight.

    Source: Reuter, Weber, Fackeldey, Röblitz, Garcia 2018 and Reuter, Fackeldey, Weber 2019 (GPCCA); Deuflhard & Weber
    2005 (the simplex); Röblitz & Weber 2013 (crispness).

    >>> P = torch.tensor([[0.6, 0.39, 0.01], [0.5, 0.48, 0.02], [0.01, 0.01, 0.98]])
    >>> metastable_states(P, k=2).round(decimals=4)
    tensor([[1.0000, 0.0000],
            [0.9886, 0.0114],
            [0.0000, 1.0000]])
    """
    chain = as_chain(P)
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise AttentionError(f"k is {k!r}; it counts metastable states: 1, 2, 3, … or None for the largest gap.")
    check_damping(damping)
    n, shape = len(chain), chain.states.shape[:-1]
    matrices, states = chain.matrix.double().cpu().reshape(-1, n, n), chain.states.cpu().reshape(-1, n)
    found = []
    for number, (matrix, inside) in enumerate(zip(matrices, states, strict=True)):
        try:
            found.append(_memberships(matrix[inside][:, inside], k, damping))
        except AttentionError as error:
            if not shape:
                raise
            where = [int(i) for i in np.unravel_index(number, shape)]
            raise AttentionError(f"chain {where}: {error}") from None
    result = torch.zeros(len(states), n, max((one.shape[1] for one in found), default=k or 1), dtype=torch.float64)
    for row, inside, one in zip(result, states, found, strict=True):
        row[inside, : one.shape[1]] = torch.from_numpy(one)
    return result.reshape(*shape, n, -1).to(chain.device, chain.dtype)


def coarse_grained_stationary(P: Tensor | Factors | Chain, memberships: Tensor, damping: float = 0.99) -> Tensor:
    """The stationary weight of each metastable state, πχ (…, k): the share of time that an endless walk spends in it.

    Args:
        P: (…, token, token) map or `Chain`.
        memberships: χ (…, token, k), as from `metastable_states` of the same chain.
        damping: as in `stationary`.

    Returns:
        (…, k), which sums to one; columns of χ that are zero get nothing.

    Raises:
        AttentionError: memberships of another shape, negative, or with rows of states that do not sum to one; whatever
            `stationary` raises.

    Source: Reuter et al. 2018 (coarse-grained stationary distribution).

    >>> coarse_grained_stationary(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.eye(2), damping=1)
    tensor([0.7500, 0.2500])
    """
    chain = as_chain(P)
    shape = tuple(chain.states.shape)
    if memberships.ndim < 2 or memberships.shape[:-1] != shape:
        raise AttentionError(
            f"memberships has shape {tuple(memberships.shape)}; with this chain it must be {(*shape, 'k')}, as"
            " metastable_states gives it."
        )
    chi = memberships.to(chain.device, chain.dtype)
    off = (chi.sum(-1) - 1)[chain.states].abs().nan_to_num(torch.inf)
    if bool((chi < 0).any()) or bool((off > 1e-2).any()):
        raise AttentionError(
            f"memberships are not shares: the least is {float(chi.min()):.3g} and a row sums to 1 ± {float(off.max()):.3g}."
            " Pass what metastable_states gives: non-negative, with rows that sum to one."
        )
    return (stationary(chain, damping)[..., None, :] @ chi)[..., 0, :]


def _memberships(matrix: Tensor, k: int | None, damping: float) -> Floats:
    """χ (state, k) of one chain without tokens that are no states."""
    n = len(matrix)
    if k is not None and k > n:
        raise AttentionError(f"k is {k}, and the chain has {n} state{'s'[: n != 1]}; use k={n} or fewer.")
    if k == 1 or n == 1:
        return np.ones((n, 1))
    matrix = matrix / matrix.sum(-1, keepdim=True)  # float32 rows are off by 1e-7, and 1 must be an eigenvector
    eta = stationary(matrix, damping).numpy()
    if eta.min() < _LEAST_WEIGHT:
        raise AttentionError(
            f"a token has the stationary weight {eta.min():.2g} at damping={damping}, too little to weigh it by. Lower the"
            " damping, for example to 0.99."
        )
    X = _schur_vectors(matrix.numpy(), eta, k)
    starts = (_feasible(X, _inner_simplex(X, eta**power)) for power in (0, 0.5, 1))
    A = max((_crispest(X, start) for start in starts), key=_crispness)
    chi = (X @ A).clip(0)
    chi /= chi.sum(1, keepdims=True)
    return chi[:, np.argsort(-(eta @ chi), kind="stable")]


def _schur_vectors(P: Floats, eta: Floats, k: int | None) -> Floats:
    """X (state, k): an invariant subspace of P, η-orthonormal, its first column 1.

    D^½ P D^−½ has √η as an eigenvector. The rest of the Schur vectors are sought in its complement, so that the first is
    √η to the last digit even where 1 is a multiple eigenvalue.
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
        raise AttentionError(f"k={k} parts eigenvalues too near to each other to be told apart; use another k.")
    return np.concatenate([np.ones((len(P), 1)), complement @ Z[:, : k - 1] / root[:, None]], 1)


def _checked(k: int, T: Floats, blocks: list[Any]) -> int:
    """k, unless it splits one of the sorted blocks of the Schur form."""
    before = 1
    for block in blocks:
        if before < k < before + len(block):
            i, j = block
            imaginary = np.sqrt(-T[i, j] * T[j, i])
            raise AttentionError(
                f"k={k} would split the complex pair of eigenvalues {T[i, i]:.4g} ± {imaginary:.4g}i; use k={k - 1} or"
                f" k={k + 1}."
            )
        before += len(block)
    return k


def _largest_gap(real: Floats, first: NDArray[np.bool_]) -> int:
    """k by the real parts of all eigenvalues but the first, sorted, and where a complex pair may not be cut."""
    gaps = np.where(first[1:], real[:-1] - real[1:], -1)[: _MOST - 1]  # the gap after λ₂ comes first
    return 2 + int(gaps.argmax()) if (gaps >= 0).any() else 1 + len(real)


def _inner_simplex(X: Floats, weight: Floats) -> Floats:
    """A (k, k) for which XA is the identity on k tokens: each the farthest from the hull of those before it, weighted."""
    corners = [int((weight * (X**2).sum(1)).argmax())]
    rest = X - X[corners[0]]
    for _ in range(1, X.shape[1]):
        corners.append(int((weight * (rest**2).sum(1)).argmax()))
        direction = rest[corners[-1]] / np.linalg.norm(rest[corners[-1]])
        rest = rest - np.outer(rest @ direction, direction)
    return np.asarray(np.linalg.inv(X[corners]), np.float64)


def _feasible(X: Floats, A: Floats) -> Floats:
    """A with its first row such that the least entry of every column of XA is 0, scaled so that rows of XA sum to one."""
    A = A.copy()
    A[0] = -(X[:, 1:] @ A[1:]).min(0)
    return A / A[0].sum()


def _crispness(A: Floats) -> float:
    """k times the crispness: Σ_j ⟨χ_j, χ_j⟩ / ⟨χ_j, 1⟩ in the η-weighted product; k when every token is in one state."""
    with np.errstate(invalid="ignore"):  # of an empty state: 0 / 0
        return float(((A**2).sum(0) / A[0]).sum())


def _crispest(X: Floats, A: Floats) -> Floats:
    """A feasible A of greatest crispness, uphill from `A`.

    Crispness is a convex function of A, and the feasible A (XA ≥ 0, Σ_j A_j = e₁) are a polytope, so the maximum is at a
    corner. Each step goes to the corner that is best for the tangent at the last one, a linear program; by convexity that
    never goes down. A step that would empty a state is taken again with the greatest membership of each state held.
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
