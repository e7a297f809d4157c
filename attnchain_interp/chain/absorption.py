"""Walks that end: the expected number of visits to each token before."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain
from attnchain_interp.chain.vectors import distribution
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.direct import solve_damped, solve_triangular, solve_triangular_halves
from attnchain_interp.numerics.krylov import gmres
from attnchain_interp.operators import Dense, full_precision

_ACCURACY: Final = 1e-6  # residual of the visits, relative to their number
_ROUNDED: Final = 1e-2  # share of the visits that may be due to the rounding of the rows
_DIRECT: Final = 2048  # tokens up to which a map is eliminated


@full_precision()
def expected_visits(P: Chain, start: Tensor | None = None) -> Tensor:
    """Returns the expected visits of a walk from `start` to each state before it ends: v (I − Q)⁻¹ (…, token).

    Q are the transitions of an absorbing chain, whose rows sum to one or less (`absorb`, or `AttentionStore.chain` with
    `sink="absorb"`). With the missing probability the walk ends, so the visits are finite without damping. The start counts
    as a visit. Causal chains are solved exactly, one block of tokens after another.

    Args:
        P: an absorbing `Chain` (…, token, token).
        start: v, distributions over the states (…, token). None means uniform.

    Raises:
        AttentionError: walks of the chain do not end, or after more than 80,000 steps (10¹³ in float64), so that rounding
            decides; the start is not a distribution over the states; gradients of a longer chain are asked for.

    Source: Kemeny & Snell, *Finite Markov Chains*, 1960 (the fundamental matrix).

    >>> from attnchain_interp import absorb
    >>> chain = absorb(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]), torch.tensor([True, False, False]))
    >>> expected_visits(chain, torch.tensor([0.0, 0.0, 1.0]))
    tensor([0., 2., 2.])
    """
    chain = as_chain(P)
    if not chain.absorbing:
        raise AttentionError(
            "walks of this chain never end, so every token is visited without end.",
            'Pass absorb(P, tokens), or store.chain(sink="absorb").',
        )
    v = chain.uniform if start is None else distribution(chain, start, "start", states_only=True)
    visits = _visits(chain, v)
    visits = torch.where(chain.states, visits, 0)
    residual = (v + chain.step(visits) - visits).abs().sum(-1)
    steps = visits.abs().sum(-1)
    ends = steps * torch.finfo(chain.dtype).eps <= _ROUNDED
    if not bool(((residual <= _ACCURACY * 10 * steps) & ends).all()) or not bool((visits >= -_ACCURACY).all()):
        raise AttentionError(
            f"the walk does not end from every state, or so rarely that the rounding of {chain.dtype} rows decides how often.",
            "Let more tokens absorb, damp the chain and ask for its stationary distribution, or make it in float64.",
        )
    return visits.clamp_min(0)


def _visits(chain: Chain, v: Tensor) -> Tensor:
    n = len(chain)
    lower, upper = (bool(chain.transitions.triangular(chain.states, upper=side).all()) for side in (False, True))
    inside = chain.transitions.scaled(chain.states)
    if (lower or upper) and isinstance(inside, Dense):
        return solve_triangular(inside.matrix, 1.0, v, upper=not lower)
    if lower or upper:
        return solve_triangular_halves(inside, 1.0, v, upper=not lower)
    if n <= _DIRECT:
        return solve_damped(inside.dense(), 1.0, v).to(v.dtype)
    return _by_gmres(chain, v)


def _by_gmres(chain: Chain, v: Tensor) -> Tensor:
    shape = chain.states.shape
    if torch.is_grad_enabled() and (chain.transitions.requires_grad or v.requires_grad):
        raise AttentionError(
            f"visits in a chain of {len(chain)} tokens that is not causal have no gradient here.",
            f"Use torch.no_grad(), or restrict the chain to {_DIRECT} tokens.",
        )

    def product(row: Tensor) -> Tensor:
        return chain.step(row.reshape(shape)).reshape(row.shape)

    def enough(visits: Tensor, residual: Tensor) -> bool:
        return bool((residual.abs().sum(-1) <= _ACCURACY * visits.abs().sum(-1)).all())

    right = v.reshape(-1, 1, len(chain))
    return gmres(product, right, _ACCURACY / 10 * right.norm(dim=-1)[:, 0], enough)[0].reshape(shape)
