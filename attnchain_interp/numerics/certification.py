"""Which certificate of |λ₂| serves which chain: its diagonal, Krylov spaces, those of an inverse, or a dense eigensolver."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from attnchain_interp.numerics.certificate import OVERLOOKED, TwoSided, certified, on_circle
from attnchain_interp.numerics.direct import second_of_diagonal
from attnchain_interp.numerics.iteration import Maps, Products
from attnchain_interp.numerics.krylov import SIZES, Basis, Product, random_starts
from attnchain_interp.numerics.shifted_inverse import APART, SHIFT, ShiftedInverse, ahead, behind
from attnchain_interp.numerics.shifted_inverse import SIZES as INVERTED_SIZES
from attnchain_interp.numerics.spectrum import certified_spectrum
from attnchain_interp.operators import Dense, Operator, full_precision
from attnchain_interp.operators.operator import uniform_over

LEAST_TOLERANCE: Final = 1e-12  # of |λ₂|, that float64 can reach for chains near to normal
_SMALL: Final = 16  # tokens up to which a dense eigensolver is as fast
_MULTIPLIED_OUT: Final = 1100  # tokens up to which a factored chain is certified as a map
_INVERTED: Final = 2048  # tokens up to which an inverse is tried
_ROOM: Final = 32 * 2**20  # bytes of float64 maps worked on together
_LATE: Final = 52  # size of the bases from which an inverse is tried for every chain
_SLOW: Final = 0.98  # |λ₂| from which an inverse is tried early


@full_precision()
@torch.no_grad()
def certify(transitions: Operator, states: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Returns |λ₂| (…) of chains in float64, and whether each is known to be within `tolerance`, (…) bool.

    Where it is not, the number is the pseudospectral radius; 1 for maps and factors too large for a dense eigensolver.

    Args:
        transitions: (…, token, token).
        states: (…, token) bool.
        tolerance: the error that is allowed.
    """
    n, batch = states.shape[-1], states.shape[:-1]
    triangular = transitions.triangular(states, upper=False) | transitions.triangular(states, upper=True)
    radius = second_of_diagonal(transitions.diagonal(), states).double().reshape(-1)
    known, states = triangular.reshape(-1), states.reshape(-1, n)
    rest = (~known).nonzero()[:, 0]
    if isinstance(transitions, Dense) or n <= _MULTIPLIED_OUT:
        maps = transitions.dense().reshape(-1, n, n)
        for some in rest.split(max(1, _ROOM // (8 * n * n))):
            radius[some], known[some] = _of_maps(maps[some].double(), states[some], tolerance)
    elif len(rest):
        found, sure = _by_krylov(_products(transitions), states, transitions.dtype, tolerance)
        radius[rest], known[rest] = torch.where(sure, found, 1)[rest], sure[rest]
    return radius.reshape(batch), known.reshape(batch)


def _of_maps(maps: Tensor, states: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    maps = maps * states[..., None]
    maps = maps / maps.sum(-1, keepdim=True).masked_fill(~states[..., None], 1)
    radius, known = maps.new_zeros(len(maps)), torch.zeros_like(states[:, 0])
    if maps.shape[-1] > _SMALL:
        radius, known = _by_krylov(_sides(maps), states, maps.dtype, tolerance, maps)
    lost = ~known
    if bool(lost.any()):
        radius[lost], known[lost] = certified_spectrum(maps[lost], states[lost], tolerance)
    return radius, known


def _sides(maps: Tensor) -> tuple[Product, Product]:
    return Maps(maps), Maps(maps.mT)


def _inside(sides: tuple[Product, Product], states: Tensor) -> tuple[Product, Product]:
    """Returns the products. Columns lose the tokens that are not states; rows have none of these, as nothing leads there."""
    return sides[0], lambda w: sides[1](w) * states[:, None]


def _products(transitions: Operator) -> tuple[Product, Product]:
    return Products(transitions), Products(transitions.transposed())


def _started(states: Tensor, dtype: torch.dtype, draw: int) -> TwoSided:
    """Returns the spaces of two starts."""
    uniform = uniform_over(states, dtype)[:, None]
    rows, columns = (Basis.started_at(start, uniform) for start in random_starts(uniform, 2 * draw + 2)[-2:])
    return TwoSided(rows, columns, states.sum(-1).double())


def _by_krylov(
    sides: tuple[Product, Product], states: Tensor, dtype: torch.dtype, tolerance: float, maps: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Grows the spaces of all chains until each is certain. `maps` are those of the products: the certain are dropped."""
    spaces = _started(states, dtype, 0)
    n = states.shape[-1]
    radius = torch.zeros(len(states), dtype=torch.float64, device=states.device)
    known, tried = torch.zeros_like(states[:, 0]), torch.zeros_like(states[:, 0])
    here = torch.arange(len(states), device=states.device)
    for size in [size for size in SIZES if size < n]:
        spaces.grow(*_inside(sides, states[here]), size)
        among = (~known[here]).nonzero()[:, 0]
        some, pending = spaces.of(among), here[among]
        pair = some.eigenpair()
        radius[pending], known[pending] = pair.value.abs(), certified(pair, some, tolerance)
        again = (~known & ~tried)[pending] & ((pair.value.abs() > _SLOW) & (size > SIZES[0]) | (size >= _LATE))
        if maps is not None and n <= _INVERTED and bool(again.any()):
            those = pending[again]
            found, sure = _by_inverse(maps[among[again]], states[those], tolerance, some.of(again))
            radius[those[sure]], known[those], tried[those] = found[sure], sure, True
        if bool(known.all()):
            break
        if maps is not None and bool(known[here].any()):
            left = ~known[here]
            here, maps, spaces = here[left], maps[left], spaces.of(left)
            sides = _sides(maps)
    return radius.clamp_max(1), known


def _by_inverse(maps: Tensor, states: Tensor, tolerance: float, spaces: TwoSided) -> tuple[Tensor, Tensor]:
    """Certifies by (I − 0.99 M)⁻¹, which sets the eigenvalues near one apart, so that short bases are enough.

    An eigenvalue far from one may still have the larger modulus. The `spaces` of the maps exclude it, and those of the
    inverse exclude others near one.
    """
    n = maps.shape[-1]
    radius, known = maps.new_zeros(len(maps)), torch.zeros_like(states[:, 0])
    inverse, product = _started(states, maps.dtype, 1), ShiftedInverse(maps)
    sides = product, product.of_columns
    for size in [size for size in INVERTED_SIZES if size < n]:
        inverse.grow(*_inside(sides, states), size)
        pair = inverse.eigenpair(lambda ritz: behind(ritz).abs().masked_fill(ritz.abs() < APART, 0))
        radius = behind(pair.value).abs()
        known = (pair.error / (SHIFT * pair.value.abs() ** 2) <= tolerance) & (pair.value.abs() >= APART)
        known &= _none_beyond(radius + tolerance, behind(pair.ritz), spaces, inverse)
        if bool(known.all()):
            break
    return radius, known


def _none_beyond(radius: Tensor, near: Tensor, spaces: TwoSided, inverse: TwoSided) -> Tensor:
    """Returns whether the spaces of maps and inverses together exclude eigenvalues beyond `radius` (chain,), (chain,) bool.

    An eigenvalue hides best on the edges of the ring, or at a Ritz value in it.
    """
    rings = [on_circle(radius + share * (1 - radius), near, near.shape[-1]) for share in (0, 0.1, 0.4, 1)]
    ritz = spaces.eigenpair().ritz
    inside = [torch.polar(torch.maximum(each.abs(), radius[:, None]).clamp_max(1), each.angle()) for each in (near, ritz)]
    points = torch.cat([*rings, *inside], -1)
    chance = spaces.log_chance(points) + inverse.log_chance(ahead(points))
    return (radius >= 1) | (chance.amax(-1) <= math.log(OVERLOOKED[4]))
