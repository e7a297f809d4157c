"""Metastable states: sets of tokens that a walk rarely leaves. GPCCA finds them; the chain need not be reversible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.chain.transformations import restrict
from attnchain_interp.checks import check_tensor, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.gpcca import memberships
from attnchain_interp.numerics.invariant_subspace import Product
from attnchain_interp.numerics.invariant_subspace import leading_eigenvalues as eigenvalues
from attnchain_interp.operators import Dense, Factors, Operator, full_precision
from attnchain_interp.operators.tiles import rows_at_once

_BUILT: Final = 2**28  # bytes of the maps of factored chains up to which they are built, since many products are needed
_TILE: Final = 2**18  # entries of a map that are built at once: those of a layer's heads stay in a cache
_DOUBLE: Final = 2048  # tokens up to which a chain is computed in float64
_LEAST_WEIGHT: Final = 1e-12  # stationary weight of a token below which √η spoils the scaled matrix


@torch.no_grad()
def metastable_states(P: Tensor | Factors | Chain, k: int | None = None, *, damping: float = 0.99) -> Tensor:
    """Returns the soft memberships χ (…, token, k): the share of each token in each of k metastable states.

    Generalised Perron cluster cluster analysis (GPCCA). The constant vector and the k − 1 eigenvalues with the largest real
    parts after λ₁ = 1 span an invariant subspace. χ are k vectors in it that are nowhere negative and sum to one at every
    token. χ are the crispest of these (nearest to 0 and 1), weighted by the stationary distribution η. The basis consists of
    real Schur vectors, so the chain need not be reversible. Real parts count, not moduli: near +1 the walk stays where it is;
    near −1 or on the unit circle it goes round in cycles.

    η is the stationary distribution of the damped chain, which gives every token a weight: reducible and causal chains have
    states too. The subspace is that of the chain itself. Damping would not change it, since damping only scales every
    eigenvalue but the first.

    Crispness has many local maxima where the states are not sharp. The result is the best of three, each reached from another
    simplex through the inside of the feasible set.

    Chains of up to 256 states have a whole Schur decomposition. Longer ones have a block Krylov space, which about a dozen
    products with k vectors span; if it does not hold the states, the whole decomposition follows (about 25 n³ operations).
    Products are in float64 up to 2,048 tokens and in the type of the chain beyond, all else in float64 on the CPU. Not
    differentiable.

    Args:
        P: (…, token, token) map or `Chain`. Maps of factors are built up to 256 MiB. Beyond, products alone are taken,
            each of all chains of a batch.
        k: the number of states. None takes the largest gap in the spectrum of each chain: the k from 2 to 20 (and fewer
            than there are tokens, unless that leaves none) with the largest Re λ_k − Re λ_k+1.
        damping: in [0, 1], of the chain whose stationary distribution η weighs the tokens.

    Returns:
        χ in the type of the chain. Every row sums to one; rows of tokens that are not states are zero. The states are in
        order of falling stationary weight (`coarse_grained_stationary`). In a batch with k=None the last axis is as long as
        the largest k, and columns beyond a chain's own k are zero. If λ_k equals λ_k+1 the answer is one of many.

    Raises:
        AttentionError: k is below 1, above the number of states or of metastable states, or parts a complex pair of
            eigenvalues; damping is outside [0, 1], or so near to 1 that a token has almost no stationary weight.

    Source: Reuter, Weber, Fackeldey, Röblitz, Garcia 2018 and Reuter, Fackeldey, Weber 2019 (GPCCA); Deuflhard & Weber
    2005 (the simplex); Röblitz & Weber 2013 (crispness).

    >>> P = torch.tensor([[0.6, 0.39, 0.01], [0.5, 0.48, 0.02], [0.01, 0.01, 0.98]])
    >>> metastable_states(P, k=2).round(decimals=4)
    tensor([[1.0000, 0.0000],
            [0.9886, 0.0114],
            [0.0000, 1.0000]])
    """
    chain = as_chain(P)
    if k is not None:
        check_whole_number("k", k, "the number of metastable states")
    check_damping(damping)
    n, shape = len(chain), chain.states.shape[:-1]
    found = []
    for number, (one, place) in enumerate(_parts(chain)):
        try:
            found.append(_memberships(one, place, k, damping))
        except AttentionError as error:
            if not shape:
                raise
            where = [int(i) for i in np.unravel_index(number, shape)]
            raise AttentionError(f"chain {where}: {error}") from None
    most = max((one.shape[1] for one in found), default=k or 1)
    states = chain.states.cpu().reshape(-1, n)
    result = torch.zeros(len(states), n, most, dtype=torch.float64, device="cpu")
    for row, inside, one in zip(result, states, found, strict=True):
        row[inside, : one.shape[1]] = torch.from_numpy(one)
    return result.reshape(*shape, n, most).to(chain.device, chain.dtype)


@torch.no_grad()
def leading_eigenvalues(P: Tensor | Factors | Chain, count: int = 20) -> Tensor:
    """Returns the eigenvalues with the largest real parts, (…, count) complex, in order of falling real part; the first is 1.

    A real part near 1 belongs to a set of tokens that the walk rarely leaves. How many are near 1 says how many metastable
    states there are. Computed as `metastable_states`; not differentiable.

    Args:
        P: (…, token, token) map or `Chain`.
        count: how many.

    Returns:
        (…, count). A chain with fewer states has zeros behind its own.

    Raises:
        AttentionError: count is below 1; the errors of `stationary`.

    >>> leading_eigenvalues(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), 2).real.round(decimals=4)
    tensor([1.0000, 0.6000])
    """
    chain = as_chain(P)
    check_whole_number("count", count, "the number of eigenvalues")
    result = torch.zeros(*chain.states.shape[:-1], count, dtype=torch.complex128, device="cpu")
    for row, (one, place) in zip(result.view(-1, count), _parts(chain), strict=True):
        found = eigenvalues(*_product(one, place, 0.99), count)
        row[: len(found)] = torch.from_numpy(found)
    return result.to(chain.device, chain.dtype.to_complex())


@full_precision()
def coarse_grained_stationary(P: Tensor | Factors | Chain, memberships: Tensor, damping: float = 0.99) -> Tensor:
    """Returns the stationary weight of each metastable state, πχ (…, k): the share of time an endless walk spends in it.

    Args:
        P: (…, token, token) map or `Chain`.
        memberships: χ (…, token, k), the result of `metastable_states` for the same chain.
        damping: in [0, 1]. See `stationary`.

    Returns:
        (…, k), which sums to one. Columns of χ that are zero get nothing.

    Raises:
        AttentionError: memberships of another shape, negative, or with rows of states that do not sum to one; the errors of
            `stationary`.

    Source: Reuter et al. 2018 (coarse-grained stationary distribution).

    >>> coarse_grained_stationary(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.eye(2), damping=1)
    tensor([0.7500, 0.2500])
    """
    chain = as_chain(P)
    check_tensor("memberships", memberships, "(…, token, k)")
    shape = tuple(chain.states.shape)
    if memberships.ndim < 2 or memberships.shape[:-1] != shape:
        raise AttentionError(
            f"memberships has shape {tuple(memberships.shape)}; with this chain it must be {(*shape, 'k')}.",
            "Pass the result of metastable_states for this chain.",
        )
    chi = memberships.to(chain.device, chain.dtype)
    off = (chi.sum(-1) - 1)[chain.states].abs().nan_to_num(torch.inf)
    if bool((chi < 0).any()) or bool((off > 1e-2).any()):
        raise AttentionError(
            f"memberships are not shares: the least is {float(chi.min()):.3g} and a row sums to 1 ± {float(off.max()):.3g}.",
            "Pass the result of metastable_states: non-negative, with rows that sum to one.",
        )
    return (stationary(chain, damping)[..., None, :] @ chi)[..., 0, :]


def _parts(chain: Chain) -> Iterator[tuple[Chain, tuple[int, ...]]]:
    """Yields each chain of a batch: alone and held as a matrix; or the whole batch, with the place in it.

    Factored chains of more than `_BUILT` bytes are not multiplied out, and an operator cannot be taken apart.
    """
    n, shape = len(chain), chain.states.shape[:-1]
    closed = restrict(chain, chain.states) if chain.absorbing else chain
    if not isinstance(closed.transitions, Dense) and closed.states.numel() * n * closed.dtype.itemsize > _BUILT:
        yield from ((closed, place) for place in np.ndindex(*shape))
        return
    for matrix, inside in zip(_built(closed.transitions).reshape(-1, n, n), closed.states.reshape(-1, n), strict=True):
        if n <= _DOUBLE:
            matrix = matrix[inside][:, inside].double().cpu()
            inside = torch.ones(len(matrix), dtype=torch.bool, device="cpu")
        yield Chain(matrix, inside, check=False), ()


def _built(operator: Operator) -> Tensor:
    """Returns the matrix of an operator, built by some rows at a time: layers and heads are never whole side by side."""
    if isinstance(operator, Dense):
        return operator.matrix
    matrix = torch.empty(operator.shape, dtype=operator.dtype, device=operator.device)
    n = operator.shape[-1]
    size = rows_at_once(_TILE, n, operator.device)
    for start in range(0, n, size):
        stop = min(start + size, n)
        matrix[..., start:stop, :] = operator.rows(start, stop)
    return matrix


def _memberships(chain: Chain, place: tuple[int, ...], k: int | None, damping: float) -> NDArray[np.float64]:
    """Returns χ (state, k) of the chain at one place of a batch."""
    inside = chain.states[place]
    n = int(inside.sum())
    if k is not None and k > n:
        raise AttentionError(f"k is {k}, and the chain has {n} state{'s'[: n != 1]}.", f"Use k={n} or fewer.")
    if k == 1 or n == 1:
        return np.ones((n, 1))
    return memberships(*_product(chain, place, damping), k)


def _product(chain: Chain, place: tuple[int, ...], damping: float) -> tuple[Product, NDArray[np.float64]]:
    """Returns x (state, m) ↦ Px of the chain at one place of a batch, and its stationary weights η (state,)."""
    inside = chain.states[place]
    eta = stationary(chain, damping)[place][inside].double().cpu().numpy()
    if eta.min() < _LEAST_WEIGHT:
        raise AttentionError(
            f"a token has the stationary weight {eta.min():.2g} at damping={damping}, too little to weigh it by.",
            "Lower the damping, for example to 0.99.",
        )

    @full_precision()
    def moved(x: NDArray[np.float64]) -> NDArray[np.float64]:
        vectors = torch.zeros(x.shape[1], len(chain), dtype=chain.dtype, device=chain.device)
        vectors[:, inside] = torch.from_numpy(x.T).to(vectors)
        found = chain.transitions.right(vectors.expand(*chain.states.shape[:-1], *vectors.shape))[place]
        return found[:, inside].double().cpu().numpy().T

    sums = moved(np.ones((len(eta), 1)))  # rows in float32 are off by 1e-7, and 1 must be an eigenvector
    return lambda x: moved(x) / sums, eta / eta.sum()
