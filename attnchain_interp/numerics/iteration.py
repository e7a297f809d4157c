"""Stationary vectors and second eigenvalues by iteration: one Arnoldi process per chain, certified before it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.numerics.direct import eigenvalues_of
from attnchain_interp.numerics.krylov import Basis, centred, l1_bound, least_residual, scattered, spectral_radius
from attnchain_interp.numerics.shifted_inverse import APART, SHIFT, ShiftedInverse, ahead, behind
from attnchain_interp.numerics.shifted_inverse import SIZES as INVERTED_SIZES
from attnchain_interp.operators import Operator
from attnchain_interp.operators.operator import uniform_over

_INVERTED: Final = 600  # tokens up to which an inverse costs less than a larger basis
_SLOW: Final = 0.98  # |λ₂| from which a chain counts as mixing slowly
_SIZES: Final = (16, 20, 24, 30, 36, 44, 52, 64, 76, 90, 104, 124, 144)  # of the basis, where convergence is looked at
_VECTOR_SIZES: Final = (8, 12, *_SIZES)  # a stationary vector alone is there sooner than a second eigenvalue
_EARLY: Final = 24  # size of the basis below which |λ₂| waits for the stationary vector
_DROPPED: Final = 0.7  # the share of chains still at work below which the others are dropped: their maps are copied


@dataclass(frozen=True)
class Tolerance:
    """The bounds under which a result is believed.

    Attributes:
        vector: bound on ‖πP' − π‖₁.
        radius: bound on the sum of all further changes of the spectral radius, if they shrink as the residual does.
        ritz: bound on the residual of its Ritz vector. Either of the two can be small by accident, so both must hold.
    """

    vector: float
    radius: float
    ritz: float


TOLERANCE: Final = {torch.float32: Tolerance(4e-7, 1e-5, 3e-4), torch.float64: Tolerance(1e-12, 1e-9, 1e-6)}


@dataclass(eq=False)
class Solutions:
    """Stationary vectors (chain, token), |λ₂| (chain,) float64, and whether each is to be believed."""

    vector: Tensor
    radius: Tensor
    has_vector: Tensor
    has_radius: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Solutions]) -> Solutions:
        """Returns the solutions of one part of the chains after another, as one."""
        columns = zip(*((part.vector, part.radius, part.has_vector, part.has_radius) for part in parts), strict=True)
        return cls(*map(torch.cat, columns))

    def put(self, chains: Tensor, other: Solutions) -> None:
        """Replaces the solutions of some chains."""
        self.vector[chains], self.radius[chains] = other.vector.to(self.vector.dtype), other.radius.double()
        self.has_vector[chains], self.has_radius[chains] = other.has_vector, other.has_radius

    def of(self, chains: Tensor) -> Solutions:
        """Returns the solutions of some chains."""
        return Solutions(self.vector[chains], self.radius[chains], self.has_vector[chains], self.has_radius[chains])


class Maps:
    """The product with maps (chain, token, token). Chains that are done are dropped."""

    def __init__(self, maps: Tensor) -> None:
        self._maps = maps
        self.invertible = maps.shape[-1] <= _INVERTED

    def __call__(self, v: Tensor) -> Tensor:
        return torch.bmm(v, self._maps)

    def keep(self, chains: Tensor) -> bool:
        self._maps = self._maps[chains]
        return True


class Products:
    """The product with an operator (…, token, token). Its chains stay together to the end."""

    invertible = False

    def __init__(self, transitions: Operator) -> None:
        self._transitions = transitions

    def __call__(self, v: Tensor) -> Tensor:
        return self._transitions.left(v.reshape(*self._transitions.shape[:-2], *v.shape[1:])).reshape(v.shape)

    def keep(self, chains: Tensor) -> bool:
        return False


def iterate(
    product: Maps | Products,
    states: Tensor,
    jump: Tensor,
    damping: float,
    vector: bool = True,
    radius: bool = True,
    begin: Tensor | None = None,
) -> Solutions:
    """Runs one Arnoldi process per chain, and tests for convergence at each size of its basis in `_SIZES`.

    Slowly mixing chains are given up early where an inverse serves them better (`invert`). Their `radius` is the
    modulus up to which eigenvalues may lie that are not near one.

    Args:
        product: v ↦ vP of all chains.
        states: (chain, token) bool.
        jump: (chain, token), where the damped walk lands when it jumps.
        vector, radius: what is wanted. The other counts as found.
        begin: (chain, token) near the stationary vector; `jump`, scattered, when None.
    """
    chains, n = jump.shape
    tolerance, here = TOLERANCE[jump.dtype], torch.arange(chains, device=jump.device)
    found = Solutions(
        torch.empty_like(jump),
        torch.zeros(chains, dtype=torch.float64, device=jump.device),
        torch.full_like(states[:, 0], not vector),
        torch.full_like(states[:, 0], not radius),
    )
    landing = (1 - damping) * jump[:, None]
    uniform = uniform_over(states, jump.dtype)[:, None]
    x = scattered(jump[:, None], uniform) if begin is None else begin[:, None]
    for _ in range(2):
        x = damping * product(x) + landing
    start = centred(damping * product(x) + landing - x, uniform)
    beta = start.norm(dim=-1)[:, 0]
    sizes = [size for size in (_SIZES if radius else _VECTOR_SIZES) if size < n] or [n - 1]
    basis = Basis.started_at(start, uniform)
    looked = here.new_full((2, len(here)), torch.nan, dtype=torch.float64)  # the radius and the residual seen last
    active = torch.ones_like(here, dtype=torch.bool)  # the others are done, or given up, and may still be in the basis

    for size in sizes:
        basis.grow(product, size)
        last = size == sizes[-1]
        at = (active & ~found.has_vector[here]).nonzero()[:, 0]
        if len(at) and not last:
            norm = least_residual(basis.projected[at], damping, beta[at])
            at = at[~(l1_bound(norm, states) >= tolerance.vector)]
        if len(at):
            correction, norm = basis.of(at).minimal_residual(damping, beta[at])
            found.vector[here[at]] = (x[at] + correction)[:, 0]
            found.has_vector[here[at]] = l1_bound(norm, states) < tolerance.vector
        at = active & ~found.has_radius[here]
        at = (at if size >= _EARLY or last else at & found.has_vector[here]).nonzero()[:, 0]
        if len(at):
            projected, before = basis.projected[at], looked[:, here[at]]
            first = before[0].isnan()
            now, before[:, first] = _largest(projected, first)
            shrinks = (now[1] / before[1]).nan_to_num(0).clamp_max(0.9)
            change = (now[0] - before[0]).abs() / (1 - shrinks)  # of all further sizes, if it shrinks as the residual does
            looked[:, here[at]], found.radius[here[at]] = now, now[0]
            found.has_radius[here[at]] = settled = (change < tolerance.radius) & (now[1] < tolerance.ritz)
            slow = (now[0] > _SLOW) & (now[1] > tolerance.ritz)
            given_up = ~settled & (last or slow & (size >= _EARLY) & product.invertible)
            if bool(given_up.any()):
                at = at[given_up]
                found.radius[here[at]] = _away_from_one(basis.projected[at])
                active[at] = False
        active &= ~(found.has_vector & found.has_radius)[here]
        if last or not bool(active.any()):
            break
        if float(active.double().mean()) < _DROPPED and product.keep(active):
            basis, here, x, beta, uniform = basis.of(active), here[active], x[active], beta[active], uniform[active]
            active = active[active]
    return found


def _largest(projected: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the spectral radius of H (chain, m + 1, m) and the residual of its Ritz vector, (2, chain).

    Returns both of a corner of H, too, for the chains that are `first` (chain,) bool: (2, first). A corner of H is the H of a
    smaller basis.
    """
    size = projected.shape[-1]
    less = max(1, size - max(4, size // 6))
    corner = F.pad(projected[first, :less, :less], (0, size - less, 0, size - less))
    radius, entries = spectral_radius(torch.cat([projected[:, :-1], corner]))
    n = len(projected)
    here = projected[:, -1, -1] * entries[:n, -1]
    there = projected[first, less, less - 1] * entries[n:, less - 1]
    now, then = torch.stack([radius, torch.cat([here, there]).double()]).tensor_split([n], 1)
    return now, then


def _away_from_one(projected: Tensor) -> Tensor:
    """Returns the modulus (chain,) up to which eigenvalues may lie among those that an inverse does not set apart.

    Such a Ritz value of H (chain, m + 1, m) may have converged or not: the residual of its vector is added.
    """
    ritz, vectors = (each.to(projected.device) for each in torch.linalg.eig(projected[:, :-1].cpu()))
    reach = ritz.abs() + projected[:, -1, -1:] * vectors[:, -1].abs()
    return reach.masked_fill(ahead(ritz).abs() >= APART, 0).amax(-1).double()


def invert(maps: Tensor, states: Tensor, jump: Tensor, damping: float, found: Solutions) -> Solutions:
    """Solves slowly mixing chains by (I − 0.99 M)⁻¹, which sets the eigenvalues near one apart.

    A short basis is then enough. At damping 0.99 the stationary vector is one product with the inverse. An eigenvalue far
    from one may still have the larger modulus: |λ₂| is believed if the radius that `iterate` has `found` is not larger.
    """
    product = ShiftedInverse(maps)
    vector = product(jump[:, None])[:, 0]
    sound = vector.isfinite().all(-1)
    if damping == SHIFT:
        found = Solutions(vector, found.radius, sound, found.has_radius)
    radius, has_radius = found.radius.clone(), found.has_radius.clone()
    pending = (sound & ~has_radius).nonzero()[:, 0]
    if len(pending) < len(maps):
        product.keep(pending)
    before = torch.zeros_like(radius[pending])
    uniform = uniform_over(states[pending], jump.dtype)[:, None]
    basis = Basis.started_at(centred(scattered(jump[pending, None], uniform), uniform), uniform)
    for size in INVERTED_SIZES:
        if not len(pending):
            break
        basis.grow(product, size)
        inverted = eigenvalues_of(basis.square.nan_to_num())
        seen = behind(inverted).abs().masked_fill(inverted.abs() < APART, 0).amax(-1).double()
        settled = ((seen - before).abs() < TOLERANCE[maps.dtype].radius) & (seen >= found.radius[pending] - 1e-4)
        radius[pending[settled]], has_radius[pending[settled]] = seen[settled], True
        left, before = ~settled, seen
        if bool(settled.any()):
            product.keep(left)
            basis, uniform, pending, before = basis.of(left), uniform[left], pending[left], seen[left]
    return Solutions(found.vector, radius, found.has_vector, has_radius)
