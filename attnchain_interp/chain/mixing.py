"""How a chain mixes: its stationary vector and its second eigenvalue, from one pass over its products."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping, teleport
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.direct import (
    eliminate,
    second_of_diagonal,
    second_of_spectrum,
    solve_lu,
    solve_triangular,
    solve_triangular_halves,
)
from attnchain_interp.numerics.iteration import Found, Maps, Products, invert, iterate
from attnchain_interp.numerics.reducibility import require_irreducible
from attnchain_interp.operators.dense import Dense
from attnchain_interp.operators.factors import Factors
from attnchain_interp.reprs import with_fields

RESIDUAL: Final = 1e-6  # ‖πP' − π‖₁ above which no vector of a map is returned
FACTORED_RESIDUAL: Final = 1e-5  # the same for factored chains: float32 sums over tens of thousands of tokens
_SMALL: Final = 48  # tokens up to which dense solvers are as fast as a Krylov basis
_DIRECT: Final = 256  # tokens up to which one float64 LU beats an iteration that looks for the vector alone
_MULTIPLIED_OUT: Final = 512  # tokens up to which a factored chain is solved as a map
_DENSE_RESCUE: Final = 4096  # tokens up to which a factored chain that did not converge is multiplied out
_CACHED: Final = 18 * 2**20  # bytes of maps worked on together on a CPU, so that they stay in its cache
_INVERTED: Final = 2048  # tokens up to which an inverse is tried before a dense eigensolver
_HEAVY: Final = 0.5  # damping below which a stationary vector and |λ₂| are looked for apart
_RESTARTS: Final = 10


@final
@dataclass(frozen=True)
class Mixing:
    """How each chain of a batch mixes.

    Attributes:
        stationary: (…, token), the stationary vector π of the damped chain P'.
        residual: (…), ‖πP' − π‖₁, with πP' brought to sum to one: rows are off by their rounding.
        second_eigenvalue: (…), |λ₂| of the chain without damping.
        converged: (…) bool: |λ₂| was read off a triangular chain or passed both tests of the iteration. Where false, the
            iteration gave up and a dense eigensolver found it.
    """

    stationary: Tensor
    residual: Tensor
    second_eigenvalue: Tensor
    converged: Tensor

    def __repr__(self) -> str:
        return with_fields(self)


_REMEMBERED: Final[WeakKeyDictionary[Chain, dict[float, Mixing]]] = WeakKeyDictionary()  # a chain does not change


def mixing(P: Tensor | Factors | Chain, damping: float = 0.99, personalization: Tensor | None = None) -> Mixing:
    """The stationary vector and |λ₂| of each chain, from one pass; cheaper than `stationary` and `second_eigenvalue` apart.

    One Arnoldi process per chain on the vectors that sum to zero, where the eigenvalues are λ₂ … λₙ. A result is believed
    only when two tests agree; slow chains go through an inverse, what is left to dense solvers. Triangular chains (causal
    attention) are solved exactly: they are so far from normal that an iteration converges to wrong eigenvalues. Not
    differentiable; `stationary` is.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.
        damping: probability of following the chain rather than jumping; |λ₂| is of the chain without damping.
        personalization: (…, token), where jumps land; uniform over the states when None.

    Raises:
        AttentionError: as `stationary` and `second_eigenvalue`.

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
    result = solve(chain, damping, jump)
    if personalization is None:
        _REMEMBERED.setdefault(chain, {})[damping] = result
    return result


def remembered(chain: Chain, damping: float) -> Mixing | None:
    """What `mixing` has found of this very chain with uniform jumps."""
    return _REMEMBERED.get(chain, {}).get(damping)


@torch.no_grad()
def solve(chain: Chain, damping: float, jump: Tensor, vector: bool = True, radius: bool = True) -> Mixing:
    """`mixing` of checked arguments, jump (…, token); zeros for what is not wanted.

    Raises:
        AttentionError: a reducible chain at damping 1, a chain that ends, or no convergence.
    """
    if chain.absorbing:
        raise AttentionError(
            "the chain is absorbing: its walks end, so it has no stationary distribution. Ask for expected_visits(P), or build"
            ' the chain with sink="drop".'
        )
    n, held = len(chain), isinstance(chain.transitions, Dense)
    if damping < _HEAVY and vector and radius:  # so damped, the first steps leave nothing to find |λ₂| in
        other = solve(chain, 0.99, jump, vector=False)
        own = solve(chain, damping, jump, radius=False)
        return replace(other, stationary=own.stationary, residual=own.residual)
    maps = chain.matrix if held or n <= _MULTIPLIED_OUT else None
    states, flat = chain.states.reshape(-1, n), jump.reshape(-1, n)
    if maps is not None:
        if damping == 1 and vector:
            require_irreducible(maps, chain.states)
        maps = maps.reshape(-1, n, n)
        found = _of_maps(maps, states, flat, damping, vector, radius)
    else:
        found = _of_products(chain, states, flat, damping, vector, radius)
    residual = torch.zeros_like(found.radius)
    if vector:
        pi, residual = _polished(chain if maps is None else maps, found.vector, states, flat, damping)
        off = residual > RESIDUAL
        if maps is not None and damping < 1 and bool(off.any()):  # float32 sums were biased: once more, in float64
            again, _ = _by_lu(maps[off], damping, flat[off])
            pi[off], residual[off] = _polished(maps[off], again, states[off], flat[off], damping)
        allowed = FACTORED_RESIDUAL if maps is None else RESIDUAL
        if not bool((residual <= allowed).all()):
            raise AttentionError(
                f"no stationary distribution within ‖πP − π‖₁ ≤ {allowed:g} was found (residual {float(residual.max()):.2g}"
                f" at damping {damping}). Lower the damping, for example to 0.99."
            )
        found.vector = pi
    batch = chain.states.shape[:-1]
    return Mixing(
        found.vector.reshape(chain.states.shape),
        residual.to(chain.dtype).reshape(batch),
        found.radius.to(chain.dtype).clamp(0, 1).reshape(batch),
        found.has_radius.reshape(batch),
    )


def _of_maps(maps: Tensor, states: Tensor, jump: Tensor, damping: float, vector: bool, radius: bool) -> Found:
    """Of maps (chain, token, token): exact where triangular or small, else by iteration, inverse, dense solver in turn.

    In the result, `has_radius` is false where the last of them was needed.
    """
    n = maps.shape[-1]
    unknown = torch.zeros_like(states[:, 0])
    found = Found(torch.zeros_like(jump), jump.new_zeros(len(jump), dtype=torch.float64), unknown, unknown.clone())
    if damping == 1 and vector:  # nothing subtracted, so right for nearly reducible chains too
        found.vector, vector = eliminate(maps, states).to(jump.dtype), False
    maps = maps if bool(states.all()) else maps * states[..., None]
    lower, upper = (Dense(maps).triangular(states, upper=side) for side in (False, True))
    for chosen, side in ((lower, False), (upper & ~lower, True)):
        if bool(chosen.any()):
            those = slice(None) if bool(chosen.all()) else chosen  # no copy of the maps where it can be helped
            second = second_of_diagonal(maps[those].diagonal(dim1=-2, dim2=-1), states[those])
            pi = solve_triangular(maps[those], damping, jump[those], side) if vector else found.vector[those]
            found.put(chosen, Found(pi, second, chosen[those], chosen[those]))
    rest = ~(lower | upper)
    if not bool(rest.any()):
        return found
    every = bool(rest.all())
    maps, states, jump = (maps, states, jump) if every else (maps[rest], states[rest], jump[rest])
    mixed = found.of(rest)
    if n <= (_SMALL if radius and maps.dtype == torch.float32 else _DIRECT):
        if vector:
            mixed.vector, mixed.has_vector = _by_lu(maps, damping, jump)
        if radius:
            mixed.radius, mixed.has_radius = second_of_spectrum(maps).double(), torch.ones_like(mixed.has_radius)
        found.put(rest, mixed)
        return found
    room = _room(maps, _CACHED)
    parts = zip(maps.split(room), states.split(room), jump.split(room), strict=True)
    iterated = Found.joined([iterate(Maps(M), some, landing, damping, vector, radius) for M, some, landing in parts])
    iterated.vector = iterated.vector if vector else mixed.vector
    lost = ~(iterated.has_vector & iterated.has_radius)
    for chosen in lost.nonzero()[:, 0].split(_room(maps, _CACHED)) if n <= _INVERTED else ():
        if len(chosen):
            inverted = invert(maps[chosen], states[chosen], jump[chosen], damping, iterated.of(chosen))
            iterated.put(chosen, inverted)
    lost = ~iterated.has_vector
    if bool(lost.any()):
        iterated.vector[lost], iterated.has_vector[lost] = _by_lu(maps[lost], damping, jump[lost])
    lost = ~iterated.has_radius
    if bool(lost.any()):
        iterated.radius[lost] = second_of_spectrum(maps[lost]).double()
    found.put(rest, iterated)
    return found


def _room(maps: Tensor, limit: int) -> int:
    """Into parts of how many maps, equally many each, these are split so that none exceeds `limit` bytes; on a GPU all."""
    parts = 1 if maps.is_cuda else min(len(maps), math.ceil(len(maps) * maps[0].nbytes / limit))
    return math.ceil(len(maps) / parts)


def _by_lu(maps: Tensor, damping: float, jump: Tensor) -> tuple[Tensor, Tensor]:
    """The vector by float64 LU, and whether the library's LU worked; else one of an iteration, judged by its residual."""
    vector = solve_lu(maps, damping, jump)
    if vector is not None:
        return vector.to(jump.dtype), torch.ones_like(jump[:, 0], dtype=torch.bool)
    states = torch.ones_like(jump, dtype=torch.bool) & (maps.sum(-2) > 0)
    found = iterate(Maps(maps), states, jump, damping, radius=False)
    return found.vector, found.has_vector


def _of_products(chain: Chain, states: Tensor, jump: Tensor, damping: float, vector: bool, radius: bool) -> Found:
    """Of a factored chain: exact where triangular, else by iteration, started again until the vector is there."""
    lower, upper = (chain.transitions.triangular(chain.states, upper=side).reshape(-1) for side in (False, True))
    if damping == 1 and vector and bool((lower | upper).any()):
        raise AttentionError(
            "the chain is reducible: it is causal, so at damping=1 the walk ends at one token and says nothing of the"
            " others. Pass damping=0.99, or ask for expected_visits of absorb(P, tokens)."
        )
    exact = (lower | upper) if radius else torch.ones_like(lower)
    second = second_of_diagonal(chain.transitions.diagonal(), chain.states).reshape(-1).double() if radius else None
    known = torch.zeros_like(jump)
    for which, side in ((lower, False), (upper, True)):
        if vector and bool(which.all()):
            shaped = jump.reshape(chain.states.shape)
            known = solve_triangular_halves(chain.transitions, damping, shaped, side).reshape(jump.shape)
            vector = False
    found = Found(known, jump.new_zeros(len(jump), dtype=torch.float64), torch.ones_like(lower), exact)
    if vector or not bool(exact.all()):
        check = radius or damping == 1
        found = iterate(Products(chain.transitions), states, jump, damping, vector, check)
        found.vector = found.vector if vector else known
        for _ in range(_RESTARTS):
            if bool(found.has_vector.all()):
                break
            begin = found.vector.clamp_min(0)
            again = iterate(
                Products(chain.transitions), states, jump, damping, True, False, begin / begin.sum(-1, keepdim=True)
            )
            found.vector, found.has_vector = again.vector, again.has_vector
    if second is not None:
        found.radius, found.has_radius = torch.where(exact, second, found.radius), found.has_radius | exact
        lost = ~found.has_radius
        if bool(lost.any()) and len(chain) > _DENSE_RESCUE:
            raise AttentionError(
                f"|λ₂| of {int(lost.sum())} of {len(lost)} chains did not converge, and maps of {len(chain)} tokens are too"
                ' large for a dense solver. Use heads="mean", or restrict the chain to fewer tokens.'
            )
        if bool(lost.any()):
            maps = chain.matrix.reshape(-1, len(chain), len(chain))
            found.radius[lost] = second_of_spectrum(maps[lost]).double()
    if damping == 1 and vector and not bool((found.radius < 1 - 1e-6).all()):
        raise AttentionError(
            "the chain is reducible, or too nearly so to tell: |λ₂| is 1 at damping=1, so its stationary distribution is not"
            " unique. Pass damping=0.99."
        )
    return found


def _polished(source: Chain | Tensor, vector: Tensor, states: Tensor, jump: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The vector (chain, token) as a distribution after one more step, and ‖πP' − π‖₁ (chain,), summed in float64.

    πP' is brought to sum to one: rows are off by their rounding, which is no fault of π.
    """

    def step(v: Tensor) -> Tensor:
        if isinstance(source, Chain):
            followed = source.step(v.reshape(source.states.shape)).reshape(v.shape).double()
        else:
            followed = accurately(v, source)
        return damping * followed + (1 - damping) * jump

    def proportioned(v: Tensor) -> Tensor:
        return v / v.sum(-1, keepdim=True)

    pi = proportioned(torch.where(states, vector, 0).clamp_min(0))
    pi = proportioned(step(pi.to(jump.dtype))).to(jump.dtype)
    return pi, (proportioned(step(pi)) - pi).abs().sum(-1)


def accurately(v: Tensor, maps: Tensor) -> Tensor:
    """v M (chain, token) in float64: sums of 64 products in the maps' type, their sums in float64, no copy of the maps."""
    total = torch.zeros_like(v, dtype=torch.float64)
    for start in range(0, maps.shape[-1], 64):
        total += torch.bmm(v[:, None, start : start + 64], maps[:, start : start + 64])[:, 0]
    return total
