"""The certificate of |λ₂|: two Krylov spaces of a chain, one of rows and one of columns, and what they exclude.

On the vectors that sum to zero the eigenvalues are λ₂ … λₙ. A claim about the largest has two halves.

- *There is such an eigenvalue.* A row x with xM ≈ θx and a column z with Mz ≈ θz give the condition number
  κ = ‖x‖‖z‖ / |xz| and a residual r. An eigenvalue lies within κ r of θ to first order, with r the backward error.
- *There is no larger one.* Let v₀ be the start of the rows and z the unit column of an eigenvalue λ. The Arnoldi relation
  bounds |v₀z| by h |uₘ|, with u = (λ − H)⁻¹ e₀ and h the length of the part outside the basis. A random start is so nearly
  orthogonal to a vector with small probability only. The two starts are independent: their probabilities multiply.

Sources: Saad, *Numerical Methods for Large Eigenvalue Problems*, 2011 (§ 3.2 condition numbers; § 6 Arnoldi); Ruhe, *The
two-sided Arnoldi algorithm*, 1983; Wilkinson, *The Algebraic Eigenvalue Problem*, 1965 (§ 7.11, Hyman's method); Kuczyński &
Woźniakowski, *Estimating the largest eigenvalue by the power and Lanczos algorithms with a random start*, 1992.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from attnchain_interp.numerics.direct import eigenvalues_of
from attnchain_interp.numerics.krylov import Basis, Product

# Bounds on products of 2 and of 4 probabilities. P(U₁U₂ ≤ ε) = ε (1 + ln 1/ε), and so on: a larger eigenvalue is overlooked
# with a probability of 10⁻⁶ over random starts.
OVERLOOKED: Final = {2: 5e-8, 4: 5e-10}
_NOISE: Final = 4  # rounding of a product and of Gram–Schmidt, in units of the type and the norm
_ANGLES: Final = 9
_ROWS: Final = 4  # after how many rows their size is looked at: a row's entries are at most some 10¹⁷ times those before
_HUGE: Final = 1e50  # from when entries are scaled: after three more rows their squares do not overflow
_LARGEST: Final = 16  # Ritz values at whose angles a circle is looked at


class Eigenpair(NamedTuple):
    """An eigenvalue (chain,) complex, a bound on its error (chain,), and the Ritz values of both spaces (chain, 2m)."""

    value: Tensor
    error: Tensor
    ritz: Tensor


@dataclass(eq=False)
class TwoSided:
    """A Krylov space of rows and one of columns of an operator, whose starts are random and independent.

    Attributes:
        rows, columns: the bases, of equal size.
        tokens: (chain,), the number of states.
    """

    rows: Basis
    columns: Basis
    tokens: Tensor

    def grow(self, product: Product, product_of_columns: Product, size: int) -> None:
        """Grows both bases to `size` products."""
        self.rows.grow(product, size)
        self.columns.grow(product_of_columns, size)

    def of(self, chains: Tensor) -> TwoSided:
        """Returns the spaces of some chains."""
        return TwoSided(self.rows.of(chains), self.columns.of(chains), self.tokens[chains])

    @property
    def rounding(self) -> Tensor:
        """(chain,): the rounding of a product, which is an error of the operator."""
        size = torch.linalg.matrix_norm(self.rows.projected.double())
        return _NOISE * torch.finfo(self.rows.vectors.dtype).eps * size.clamp_min(1)

    def eigenpair(self, order: Callable[[Tensor], Tensor] = torch.abs) -> Eigenpair:
        """Returns the eigenvalue that is first in `order` (largest), refined by both sides."""
        m, H = self.rows.size, self._projected
        mine, theirs = eigenvalues_of(H[:, :m]).chunk(2)
        value = _picked(mine, order(mine).argmax(-1))
        value = torch.complex(value.real, value.imag.abs())
        near = _picked(theirs, (theirs - value[:, None]).abs().argmin(-1))
        (s, u), (first, first_u), (last, last_u) = (each.chunk(2) for each in _ritz_vector(H, torch.cat([value, near])))
        gram = torch.bmm(self.rows.vectors, self.columns.vectors[:, :m].mT).to(u.dtype)
        along = torch.bmm(gram, u[..., None])[..., 0]  # of the column z, on the basis of the rows
        overlap = (s * along[:, :m]).sum(-1)
        refined = value + (first * along[:, 0] + last * along[:, m]) / overlap
        residual, residual_u = ((a.abs().square() + b.abs().square()).sqrt() for a, b in ((first, last), (first_u, last_u)))
        error = (2 * torch.minimum(residual, residual_u) + self.rounding) / overlap.abs()
        return Eigenpair(refined, error.nan_to_num(torch.inf), torch.cat([mine, theirs], -1))

    def log_chance(self, points: Tensor) -> Tensor:
        """Returns a bound on log P(the starts hide an eigenvalue) at points (chain, point), at most zero."""
        m, H = self.rows.size, self._projected
        u, left = _solved_below(H[:, :m], torch.cat([points, points]))  # (point − H) u = left · e₀
        outside = H[:, m, m - 1, None] * u[:, -1].abs()
        rounding = self.rounding.repeat(2)[:, None] * math.sqrt(m) * torch.linalg.vector_norm(u, dim=1)
        density = (4 * self.tokens / math.pi).sqrt().repeat(2)[:, None]
        hidden = density * (outside + rounding) / left.abs()  # how much of a unit eigenvector can lie along a start
        return hidden.nan_to_num(1).clamp(1e-300, 1).log().unflatten(0, (2, -1)).sum(0)

    @property
    def _projected(self) -> Tensor:
        """(2 · chain, m + 1, m): the projected products of the rows, then those of the columns."""
        return torch.cat([basis.projected.double() for basis in (self.rows, self.columns)])


def certified(pair: Eigenpair, spaces: TwoSided, tolerance: float) -> Tensor:
    """Returns whether |λ₂| is within `tolerance` of the modulus of `pair`, (chain,) bool.

    The part outside is 1/|p| with p the characteristic polynomial of H, up to a factor. It is harmonic in its logarithm
    outside a circle that holds all Ritz values, so it is largest on the circle. Nothing lies outside the unit circle.
    """
    radius = pair.value.abs() + tolerance
    known = (pair.error <= tolerance) & ((radius >= 1) | (pair.ritz.abs().amax(-1) <= radius))
    unsure = (known & (radius < 1)).nonzero()[:, 0]
    if len(unsure):
        points = on_circle(radius[unsure], pair.ritz[unsure], _LARGEST)
        known[unsure] = spaces.of(unsure).log_chance(points).amax(-1) <= math.log(OVERLOOKED[2])
    return known


def on_circle(radius: Tensor, near: Tensor, largest: int) -> Tensor:
    """Returns points (chain, point) of modulus `radius` (chain,): at the angles of the `largest` of `near`, and between."""
    even = torch.linspace(0, math.pi, _ANGLES, dtype=torch.float64, device=near.device)
    those = near.gather(-1, near.abs().topk(min(largest, near.shape[-1]), -1).indices)
    angles = torch.cat([those.angle().abs(), even.expand(len(near), -1)], -1)
    return torch.polar(radius.double()[:, None].expand_as(angles), angles)


def _picked(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(-1, index[:, None])[:, 0]


def _ritz_vector(H: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the unit s (chain, m) with H s = value · s but for the first row and the row below, and what these two leave."""
    m = H.shape[-1]
    s, left = (each[..., 0] for each in _solved_below(H[:, :m], value[:, None]))
    size = torch.linalg.vector_norm(s, dim=-1)
    return s / size[:, None], -left / size, H[:, m, m - 1] * s[:, m - 1] / size


def _solved_below(H: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns s (chain, m, point) with (point − H) s = 0 but for the first row, and that row (chain, point).

    H (chain, m, m) is zero below its first subdiagonal, so each row gives one entry, from the last on. This is backward stable
    (Hyman's method). Where a space was exhausted, s begins at its last vector. Entries are scaled before they overflow.
    """
    m = H.shape[-1]
    s = points.new_zeros(len(H), m, points.shape[1])
    parts = torch.view_as_real(s).flatten(-2)  # the same memory: a real matrix times these is one product
    exhausted = (H.diagonal(-1, 1, 2) == 0).cumsum(-1) > 0
    s[torch.arange(len(H), device=H.device), m - 1 - exhausted.sum(-1)] = 1

    def row(i: int) -> Tensor:
        known = torch.bmm(H[:, i, None, i:], parts[:, i:])[:, 0].unflatten(-1, (-1, 2))
        return points * s[:, i] - torch.view_as_complex(known)

    for i in range(m - 1, 0, -1):
        below = H[:, i, i - 1, None]
        s[:, i - 1] += row(i) / torch.where(below == 0, 1, below)
        if i % _ROWS == 0:
            largest = s[:, i - 1 : i - 1 + _ROWS].abs().amax(1, keepdim=True)
            if bool((largest > _HUGE).any()):
                s[:, i - 1 :] /= largest.clamp_min(1)
    return s, row(0)
