"""Functionals of a chain: bounces, the stationary distribution (TokenRank), |λ₂|, and the last two from one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, final, overload

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping
from attnchain_interp.chain.vectors import distribution, one_hot, teleport
from attnchain_interp.checks import as_number, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.adjoint import with_implicit_gradient
from attnchain_interp.numerics.certification import LEAST_TOLERANCE, certify
from attnchain_interp.numerics.direct import second_of_diagonal, second_of_spectrum
from attnchain_interp.numerics.solver import solve
from attnchain_interp.operators import Dense, Factors
from attnchain_interp.reprs import with_fields


@final
@dataclass(frozen=True, eq=False)
class Mixing:
    """The mixing of each chain of a batch. It keeps its chains, for the certificate that `converged` makes when it is read.

    Attributes:
        stationary: (…, token), the stationary vector π of the damped chain P'.
        residual: (…), ‖πP' − π‖₁, with πP' scaled to sum to one. The rows of a map sum to one up to rounding only.
        second_eigenvalue: (…), |λ₂| of the chain without damping.
        chain: the chain without damping.
        tolerance: the error of |λ₂| that `converged` is about.
    """

    stationary: Tensor
    residual: Tensor
    second_eigenvalue: Tensor
    chain: Chain = field(repr=False)
    tolerance: float = field(repr=False)

    def __repr__(self) -> str:
        return with_fields(self)

    @cached_property
    def _certificate(self) -> tuple[Tensor, Tensor]:
        radius, known = certify(self.chain.transitions, self.chain.states, self.tolerance / 2)
        return radius, known & ((self.second_eigenvalue.double() - radius).abs() <= self.tolerance / 2)

    @property
    def converged(self) -> Tensor:
        """(…) bool: |λ₂| is known to be within `tolerance` of the truth. Found at the first look, in some steps more.

        True means that a computation in float64 found an eigenvalue there and excluded a larger one, with a probability of
        error of 10⁻⁶ over its random starts; or that the chain is triangular, so its eigenvalues are its diagonal. False
        means that it could not: then `bound` is what can be said. See "The certificate" in docs/mathematics.md.
        """
        return self._certificate[1]

    @property
    def bound(self) -> Tensor:
        """(…), what |λ₂| does not exceed, in float64.

        Where `converged` holds it is |λ₂| plus the tolerance. Else it is the pseudospectral radius at the precision of
        float64: no computation in float64 can tell the chain from one whose |λ₂| is that large. It is 1 for a chain too
        large for a dense eigensolver.
        """
        radius, converged = self._certificate
        return torch.where(converged, self.second_eigenvalue.double() + self.tolerance, radius).clamp_max(1)


def mixing(
    P: Tensor | Factors | Chain, damping: float = 0.99, personalization: Tensor | None = None, *, tolerance: float = 1e-4
) -> Mixing:
    """Returns the stationary vector and |λ₂| of each chain. One pass finds both, which costs less than two functions.

    One Arnoldi process per chain runs on the vectors that sum to zero, where the eigenvalues are λ₂ … λₙ. A result is
    believed only when two tests agree. Slowly mixing chains are solved by an inverse, and the rest by dense solvers. The
    tests are an estimate: `converged` of the result certifies |λ₂|, when it is read.
    Triangular chains (causal attention) are solved exactly: they are so far from normal that an iteration converges to
    wrong eigenvalues. A second question about the same `Chain` costs nothing: the chain keeps the answer. Not
    differentiable; `stationary` is.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.
        damping: probability of following the chain rather than jumping, in [0, 1]. |λ₂| is of the chain without damping.
        personalization: (…, token), where jumps land. None means uniform over the states.
        tolerance: the error of |λ₂| that `converged` allows, from 1e-12 on.

    Raises:
        AttentionError: the errors of `stationary` and `second_eigenvalue`; a tolerance that float64 cannot reach.

    >>> import torch
    >>> found = mixing(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), damping=1)
    >>> [round(float(x), 4) for x in (*found.stationary, found.second_eigenvalue)]
    [0.75, 0.25, 0.6]
    """
    chain = as_chain(P)
    check_damping(damping)
    if not LEAST_TOLERANCE <= as_number(tolerance) <= 1:
        raise AttentionError(
            f"tolerance is {tolerance!r}; |λ₂| lies in [0, 1], and float64 reaches {LEAST_TOLERANCE:g}.",
            f"Pass a tolerance from {LEAST_TOLERANCE:g} to 1, for example 1e-4.",
        )
    jump = teleport(chain, personalization)
    known = chain.answers.get(damping) if personalization is None else None
    if known is None:
        _refuse_absorbing(chain)
        found, residual = solve(chain.transitions, chain.states, damping, jump)
        known = found.vector, residual, found.radius
        if personalization is None:
            chain.answers[damping] = known
    pi, residual, radius = (answer.clone() for answer in known)
    return Mixing(pi, residual, radius, chain, tolerance)


def _refuse_absorbing(chain: Chain) -> None:
    if chain.absorbing:
        raise AttentionError(
            "the chain is absorbing: its walks end, so it has no stationary distribution.",
            'Ask for expected_visits(P), or build the chain with sink="drop".',
        )


def bounce(P: Tensor | Factors | Chain, start: Tensor | int, steps: int = 2, *, path: bool = False) -> Tensor:
    """Returns the distribution of a walk from `start` after `steps` steps: v Pⁿ (…, token), the multi-bounce attention.

    One step from one token is the row of that token. One step from the uniform distribution is the column sum divided by
    the number of states. Many steps tend to `stationary`.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.
        start: v, a token by number, or distributions (…, token).
        steps: n, 0 or more.
        path: return every distribution on the way, (…, steps + 1, token), the start first.

    Raises:
        AttentionError: the start is out of range or not a distribution; steps is not a whole number from 0 on.

    Source: Erel et al. 2025, "multi-bounce attention".

    >>> bounce(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), 1, steps=2)
    tensor([0.5000, 0.5000])
    """
    chain = as_chain(P)
    check_whole_number("steps", steps, "the number of steps of the walk", least=0)
    if isinstance(start, int) or (hasattr(start, "__index__") and not getattr(start, "ndim", 0)):
        start = one_hot(chain, start)
    if isinstance(start, str):
        cause = f"start is {start!r}; a chain has no names, and start is a token by number, or a distribution."
        raise AttentionError(cause, "Pass a number, such as 0 or -1. MultiBounce(start=…) knows names.")
    v = distribution(chain, start, "start")
    visited = [v]
    for _ in range(steps):
        v = chain.step(v)
        visited.append(v)
    return torch.stack(visited, -2) if path else v


@overload
def stationary(
    P: Tensor | Factors | Chain,
    damping: float = ...,
    personalization: Tensor | None = ...,
    *,
    return_residual: Literal[False] = ...,
) -> Tensor: ...


@overload
def stationary(
    P: Tensor | Factors | Chain, damping: float = ..., personalization: Tensor | None = ..., *, return_residual: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def stationary(
    P: Tensor | Factors | Chain, damping: float = 0.99, personalization: Tensor | None = None, *, return_residual: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the distribution π (…, token) with π P' = π, where P' = damping · P + (1 − damping) · 1 vᵀ.

    Below damping 1 there is exactly one. Triangular maps (causal attention) are solved exactly, small maps by elimination in
    float64, large maps and factored chains by GMRES until a residual bound holds. At damping 1 the chain itself must be
    irreducible; it is solved by the elimination of Grassmann, Taksar & Heyman (1985), which subtracts nothing and is accurate
    for nearly reducible chains. Differentiable once, by the implicit function theorem: no iteration is recorded.

    Args:
        P: (…, token, token) map, `Factors` (batch, head, …) or `Chain`. 16-bit inputs are computed in float32.
        damping: probability of following the chain rather than jumping, in [0, 1].
        personalization: v (…, token), where jumps land. None means uniform over the states.
        return_residual: also return ‖πP' − π‖₁ (…). It is at most 1e-6 (1e-5 for factored chains of more than 512 tokens).
            The L1 error of π is at most that divided by 1 − damping.

    Raises:
        AttentionError: a reducible chain at damping 1 (the message names its closed classes), damping outside [0, 1],
            a personalization that is not a distribution, a chain that ends (`absorb`), or no convergence.

    Source: Erel et al. 2025 (TokenRank); Page et al. 1999 (damping).

    >>> stationary(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), damping=1)
    tensor([0.7500, 0.2500])
    """
    chain = as_chain(P)
    check_damping(damping)
    jump = teleport(chain, personalization)
    known = chain.answers.get(damping) if personalization is None else None
    if known is not None:
        pi, residual, _ = (answer.clone() for answer in known)
    else:
        _refuse_absorbing(chain)
        found, residual = solve(chain.transitions, chain.states, damping, jump, radius=False)
        pi = found.vector
    if torch.is_grad_enabled() and (chain.transitions.requires_grad or jump.requires_grad):
        pi = with_implicit_gradient(chain.transitions, chain.states, pi, damping, jump)
    return (pi, residual) if return_residual else pi


def second_eigenvalue(P: Tensor | Factors | Chain) -> Tensor:
    """Returns |λ₂| (…), the second largest modulus among the eigenvalues of each chain; 0 for a single state.

    The eigenvalues of a non-symmetric map may be complex, hence the modulus. Near 1 the chain mixes slowly. The eigenvalues
    of triangular maps (causal attention) are read off the diagonal, which is exact; such maps are far from normal, and
    iterations and dense solvers are not exact there. The others are estimates, to within 1e-4 for attention as it comes;
    `mixing(P).converged` certifies them. A dense eigensolver is used below 49 tokens and for maps that require gradients.
    A later `stationary` of the same `Chain` costs nothing.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.

    Raises:
        AttentionError: the map is not row-stochastic, the chain ends (`absorb`), gradients of a factored chain are asked
            for, or a factored chain of more than 4,096 tokens did not converge.

    Source: Erel et al. 2025 (λ₂ weighting).

    >>> round(float(second_eigenvalue(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))), 4)
    0.6
    """
    chain = as_chain(P)
    if not (torch.is_grad_enabled() and chain.transitions.requires_grad):
        return mixing(chain).second_eigenvalue
    if not isinstance(chain.transitions, Dense):
        raise AttentionError(
            "|λ₂| of a factored chain has no gradient here.", "Use torch.no_grad(), or pass the map: factors.maps()."
        )
    _refuse_absorbing(chain)
    found = second_of_diagonal(chain.transitions.diagonal(), chain.states)
    full = ~torch.stack([chain.transitions.triangular(chain.states, upper=side) for side in (False, True)]).any(0)
    return found.masked_scatter(full, second_of_spectrum(chain.matrix[full])) if bool(full.any()) else found
