"""The strategy of the solvers: which of them finds the stationary vector and |λ₂| of which chain.

Exact where a chain is triangular or small; else by iteration, by an inverse, and by a dense eigensolver in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.direct import (
    eliminate,
    require_irreducible,
    second_of_diagonal,
    second_of_spectrum,
    solve_damped,
    solve_triangular,
    solve_triangular_halves,
)
from attnchain_interp.numerics.iteration import Maps, Products, Solutions, invert, iterate
from attnchain_interp.operators import Dense, Operator, full_precision

RESIDUAL: Final = 1e-6  # ‖πP' − π‖₁ above which no vector of a map is returned
FACTORED_RESIDUAL: Final = 1e-5  # the same for factored chains: float32 sums over tens of thousands of tokens
_SMALL: Final = 48  # tokens up to which dense solvers are as fast as a Krylov basis
_DIRECT: Final = 256  # tokens up to which an elimination in float64 beats an iteration that looks for the vector alone
_MULTIPLIED_OUT: Final = 512  # tokens up to which a factored chain is solved as a map
_DENSE_RESCUE: Final = 4096  # tokens up to which a factored chain that did not converge is multiplied out
_CACHED: Final = 32 * 2**20  # bytes of maps worked on together on a CPU: more do not stay in its cache
_INVERTED: Final = 2048  # tokens up to which an inverse is tried before a dense eigensolver
_HEAVY: Final = 0.5  # damping below which a stationary vector and |λ₂| are looked for apart
_RESTARTS: Final = 10
_UNITS: Final = 8  # in the last place, below which a stationary vector takes no further step

Step = Callable[[Tensor], Tensor]  # v ↦ vP in float64


@full_precision()
@torch.no_grad()
def solve(
    transitions: Operator, states: Tensor, damping: float, jump: Tensor, vector: bool = True, radius: bool = True
) -> tuple[Solutions, Tensor]:
    """Returns stationary vectors (…, token) and |λ₂| (…) of chains, and the residuals ‖πP' − π‖₁ (…).

    Args:
        transitions: (…, token, token), the chains without damping.
        states: (…, token) bool.
        damping: in [0, 1].
        jump: (…, token), where the damped walk lands when it jumps.
        vector, radius: what is wanted. The other is zero in the result.

    `has_radius` of the result is false where a dense eigensolver was needed.

    Raises:
        AttentionError: a reducible chain at damping 1, or no convergence.
    """
    n = transitions.shape[-1]
    if damping < _HEAVY and vector and radius:  # so damped, the first steps leave nothing to find |λ₂| in
        found, _ = solve(transitions, states, 0.99, jump, vector=False)
        own, residual = solve(transitions, states, damping, jump, radius=False)
        found.vector = own.vector
        return found, residual
    shape, batch = states.shape, states.shape[:-1]
    maps = transitions.dense() if isinstance(transitions, Dense) or n <= _MULTIPLIED_OUT else None
    if maps is not None and not isinstance(transitions, Dense):  # the rows of composed factors are off by a few roundings
        maps = maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    if maps is not None and damping == 1 and vector:
        require_irreducible(maps, states)
    states, jump = states.reshape(-1, n), jump.reshape(-1, n)
    if maps is not None:
        maps = maps.reshape(-1, n, n)
        room = _room(maps)
        parts = zip(maps.split(room), states.split(room), jump.split(room), strict=True)
        solved = [_of_maps(M, inside, landing, damping, vector, radius) for M, inside, landing in parts]
        found, residual = Solutions.joined([part for part, _ in solved]), torch.cat([part for _, part in solved])
    else:
        found = _of_products(transitions, shape, states, jump, damping, vector, radius)
        residual = torch.zeros_like(found.radius)
        if vector:
            found.vector, residual = _polished(_followed_by(transitions, shape), found.vector, states, jump, damping)
    allowed = FACTORED_RESIDUAL if maps is None else RESIDUAL
    if not bool((residual <= allowed).all()):
        raise AttentionError(
            f"no stationary distribution within ‖πP' − π‖₁ ≤ {allowed:g} was found (residual {float(residual.max()):.2g}"
            f" at damping {damping}).",
            "Lower the damping, or pass the chain in float64.",
        )
    found.vector, found.radius = found.vector.reshape(shape), found.radius.to(jump.dtype).clamp(0, 1).reshape(batch)
    found.has_vector, found.has_radius = found.has_vector.reshape(batch), found.has_radius.reshape(batch)
    return found, residual.to(jump.dtype).reshape(batch)


def _of_maps(
    maps: Tensor, states: Tensor, jump: Tensor, damping: float, vector: bool, radius: bool
) -> tuple[Solutions, Tensor]:
    """Solves maps (chain, token, token), and returns the residuals (chain,) too."""
    found = _before_steps(maps, states, jump, damping, vector, radius)
    if not vector:
        return found, torch.zeros_like(found.radius)
    found.vector, residual = _polished(_followed_in(maps), found.vector, states, jump, damping)
    off = residual > RESIDUAL
    if damping < 1 and bool(off.any()):  # float32 sums were biased: once more, in float64
        again = solve_damped(maps[off], damping, jump[off])
        found.vector[off], residual[off] = _polished(_followed_in(maps[off]), again, states[off], jump[off], damping)
    return found, residual


def _before_steps(maps: Tensor, states: Tensor, jump: Tensor, damping: float, vector: bool, radius: bool) -> Solutions:
    """Solves maps (chain, token, token). The vectors are not distributions yet."""
    n = maps.shape[-1]
    unknown = torch.zeros_like(states[:, 0])
    found = Solutions(torch.zeros_like(jump), jump.new_zeros(len(jump), dtype=torch.float64), unknown, unknown.clone())
    if damping == 1 and vector:  # nothing subtracted, so right for nearly reducible chains too
        found.vector, vector = eliminate(maps, states).to(jump.dtype), False
    maps = maps if bool(states.all()) else maps * states[..., None]
    lower, upper = (Dense(maps).triangular(states, upper=side) for side in (False, True))
    for chosen, side in ((lower, False), (upper & ~lower, True)):
        if bool(chosen.any()):
            those = slice(None) if bool(chosen.all()) else chosen  # the maps are not copied if all are chosen
            second = second_of_diagonal(maps[those].diagonal(dim1=-2, dim2=-1), states[those])
            pi = solve_triangular(maps[those], damping, jump[those], side) if vector else found.vector[chosen]
            found.put(chosen, Solutions(pi, second, chosen[those], chosen[those]))
    rest = ~(lower | upper)
    if not bool(rest.any()):
        return found
    every = bool(rest.all())
    maps, states, jump = (maps, states, jump) if every else (maps[rest], states[rest], jump[rest])
    mixed = found.of(rest)
    if n <= (_SMALL if radius and maps.dtype == torch.float32 else _DIRECT):
        if vector:
            mixed.vector[:], mixed.has_vector[:] = solve_damped(maps, damping, jump), True
        if radius:
            mixed.radius, mixed.has_radius = second_of_spectrum(maps).double(), torch.ones_like(mixed.has_radius)
        found.put(rest, mixed)
        return found
    iterated = iterate(Maps(maps), states, jump, damping, vector, radius)
    iterated.vector = iterated.vector if vector else mixed.vector
    lost = ~(iterated.has_vector & iterated.has_radius)
    if n <= _INVERTED and bool(lost.any()):
        iterated.put(lost, invert(maps[lost], states[lost], jump[lost], damping, iterated.of(lost)))
    lost = ~iterated.has_vector
    if bool(lost.any()):
        iterated.vector[lost] = solve_damped(maps[lost], damping, jump[lost]).to(jump.dtype)
        iterated.has_vector[lost] = True
    lost = ~iterated.has_radius
    if bool(lost.any()):
        iterated.radius[lost] = second_of_spectrum(maps[lost]).double()
    found.put(rest, iterated)
    return found


def _room(maps: Tensor) -> int:
    """Returns how many maps make a part of at most `_CACHED` bytes, equally many in each part; all of them on a GPU."""
    parts = 1 if maps.is_cuda else max(1, min(len(maps), math.ceil(maps.nbytes / _CACHED)))
    return max(1, math.ceil(len(maps) / parts))


def _of_products(
    transitions: Operator, shape: torch.Size, states: Tensor, jump: Tensor, damping: float, vector: bool, radius: bool
) -> Solutions:
    """Solves factored chains of `shape` (…, token). The iteration starts again until the vector is there."""
    shaped = states.reshape(shape)
    lower, upper = (transitions.triangular(shaped, upper=side).reshape(-1) for side in (False, True))
    if damping == 1 and vector and bool((lower | upper).any()):
        raise AttentionError(
            "the chain is reducible: it is causal, so at damping=1 the walk ends at one token and says nothing about others.",
            "Pass damping=0.99, or ask for expected_visits of absorb(P, tokens).",
        )
    exact = (lower | upper) if radius else torch.ones_like(lower)
    second = second_of_diagonal(transitions.diagonal(), shaped).reshape(-1).double() if radius else None
    known = torch.zeros_like(jump)
    for which, side in ((lower, False), (upper, True)):
        if vector and bool(which.all()):
            known = solve_triangular_halves(transitions, damping, jump.reshape(shape), side).reshape(jump.shape)
            vector = False
    found = Solutions(known, jump.new_zeros(len(jump), dtype=torch.float64), torch.ones_like(lower), exact)
    if vector or not bool(exact.all()):
        check = radius or damping == 1
        found = iterate(Products(transitions), states, jump, damping, vector, check)
        found.vector = found.vector if vector else known
        for _ in range(_RESTARTS):
            if bool(found.has_vector.all()):
                break
            begin = found.vector.clamp_min(0)
            again = iterate(Products(transitions), states, jump, damping, True, False, begin / begin.sum(-1, keepdim=True))
            found.vector, found.has_vector = again.vector, again.has_vector
    if second is not None:
        found.radius, found.has_radius = torch.where(exact, second, found.radius), found.has_radius | exact
        lost = ~found.has_radius
        n = shape[-1]
        if bool(lost.any()) and n > _DENSE_RESCUE:
            raise AttentionError(
                f"|λ₂| of {int(lost.sum())} of {len(lost)} chains did not converge, and maps of {n} tokens are too large for"
                " a dense solver.",
                'Use heads="mean", or restrict the chain to fewer tokens.',
            )
        if bool(lost.any()):
            maps = transitions.dense().reshape(-1, n, n)
            found.radius[lost] = second_of_spectrum(maps[lost]).double()
    if damping == 1 and vector and not bool((found.radius < 1 - 1e-6).all()):
        raise AttentionError(
            "the chain is reducible, or too nearly so to tell: |λ₂| is 1 at damping=1. Its stationary vector is not unique.",
            "Pass damping=0.99.",
        )
    return found


def _followed_in(maps: Tensor) -> Step:
    def accurately(v: Tensor) -> Tensor:
        """Sums of 64 products in the type of the maps, their sum in float64: the maps are not copied."""
        total = torch.zeros_like(v, dtype=torch.float64)
        for start in range(0, maps.shape[-1], 64):
            total += torch.bmm(v[:, None, start : start + 64], maps[:, start : start + 64])[:, 0]
        return total

    return accurately


def _followed_by(transitions: Operator, shape: torch.Size) -> Step:
    return lambda v: transitions.left(v.reshape(shape)[..., None, :]).reshape(v.shape).double()


def _polished(followed: Step, vector: Tensor, states: Tensor, jump: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Returns the vector (chain, token) as a distribution π, and ‖πP' − π‖₁ (chain,) as float64 has it.

    πP' is scaled to sum to one: the rounding of the rows is not an error of π. It takes the place of a π that is off by more
    than some units in the last place.
    """

    def proportioned(v: Tensor) -> Tensor:
        return v / v.sum(-1, keepdim=True)

    def stepped(pi: Tensor) -> tuple[Tensor, Tensor]:
        after = proportioned(damping * followed(pi) + (1 - damping) * jump)
        return after, (after - pi).abs().sum(-1)

    pi = proportioned(torch.where(states, vector, 0).clamp_min(0).double()).to(jump.dtype)
    after, residual = stepped(pi)
    off = ~(residual <= _UNITS * torch.finfo(jump.dtype).eps)
    if bool(off.any()):
        pi = torch.where(off[:, None], after.to(jump.dtype), pi)
        residual = torch.where(off, stepped(pi)[1], residual)
    return pi, residual
