"""How a chain mixes: its stationary vector and its second eigenvalue, from one pass over its products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping, teleport
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.solver import solve
from attnchain_interp.operators.factors import Factors
from attnchain_interp.reprs import with_fields


@final
@dataclass(frozen=True)
class Mixing:
    """How each chain of a batch mixes.

    Attributes:
        stationary: (…, token), the stationary vector π of the damped chain P'.
        residual: (…), ‖πP' − π‖₁, with πP' scaled to sum to one. The rows of a map sum to one up to rounding only.
        second_eigenvalue: (…), |λ₂| of the chain without damping.
        converged: (…) bool. True: |λ₂| was read off a triangular chain, or passed both tests of the iteration. False: a
            dense eigensolver found it after the iteration had given up.
    """

    stationary: Tensor
    residual: Tensor
    second_eigenvalue: Tensor
    converged: Tensor

    def __repr__(self) -> str:
        return with_fields(self)


def mixing(P: Tensor | Factors | Chain, damping: float = 0.99, personalization: Tensor | None = None) -> Mixing:
    """Returns the stationary vector and |λ₂| of each chain. One pass finds both, which costs less than two functions.

    One Arnoldi process per chain runs on the vectors that sum to zero, where the eigenvalues are λ₂ … λₙ. A result is
    believed only when two tests agree. Slowly mixing chains are solved by an inverse, and the rest by dense solvers.
    Triangular chains (causal attention) are solved exactly: they are so far from normal that an iteration converges to
    wrong eigenvalues. A second question about the same `Chain` costs nothing: the chain keeps the answer. Not
    differentiable; `stationary` is.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.
        damping: probability of following the chain rather than jumping, in [0, 1]. |λ₂| is of the chain without damping.
        personalization: (…, token), where jumps land. None means uniform over the states.

    Raises:
        AttentionError: the errors of `stationary` and `second_eigenvalue`.

    >>> import torch
    >>> found = mixing(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), damping=1)
    >>> [round(float(x), 4) for x in (*found.stationary, found.second_eigenvalue)]
    [0.75, 0.25, 0.6]
    """
    chain = as_chain(P)
    check_damping(damping)
    jump = teleport(chain, personalization)
    known = remembered(chain, damping) if personalization is None else None
    if known is not None:
        return known
    refuse_absorbing(chain)
    found, residual = solve(chain.transitions, chain.states, damping, jump)
    result = Mixing(found.vector, residual, found.radius, found.has_radius)
    if personalization is None:
        chain.answers[damping] = result
    return result


def remembered(chain: Chain, damping: float) -> Mixing | None:
    """Returns the answer that this chain keeps for uniform jumps."""
    return chain.answers.get(damping)


def refuse_absorbing(chain: Chain) -> None:
    """
    Raises:
        AttentionError: walks of the chain end.
    """
    if chain.absorbing:
        raise AttentionError(
            "the chain is absorbing: its walks end, so it has no stationary distribution.",
            'Ask for expected_visits(P), or build the chain with sink="drop".',
        )
