"""The certificate of |λ₂|: two Krylov spaces of a chain, one of rows and one of columns, and what they exclude.

On the vectors that sum to zero the eigenvalues are λ₂ … λₙ. A claim about the largest has two halves.

- *There is such an eigenvalue.* A row x with xM ≈ θx and a column z with Mz ≈ θz give the condition number
  κ = ‖x‖‖z‖ / |xz| and a residual r. An eigenvalue lies within κ r of θ to first order, with r the backward error.
- *There is no larger one.* Let v₀ be the start of the rows and z the unit column of an eigenvalue λ. The Arnoldi relation
  bounds |v₀z| by h |uₘ|, with u = (λ − H)⁻¹ e₀ and h the length of the part outside the basis. A random start is so nearly
  orthogonal to a vector with small probability only. The two starts are independent: their probabilities multiply.

Sources: Saad, *Numerical Methods for Large Eigenvalue Problems*, 2011 (§ 3.2 condition numbers; § 6 Arnoldi); Ruhe, *The
two-sided Arnoldi algorithm*, 1983; Kuczyński & Woźniakowski, *Estimating the largest eigenvalue by the power and Lanczos
algorithms with a random start*, 1992.
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
_LARGEST: Final = 16  # Ritz values at whose angles a circle is looked at


class Eigenpair(NamedTuple):
    """An eigenvalue (chain,) complex, a bound on its error (chain,), and the Ritz values of both spaces (chain, 2m)."""

    value: Tensor
    error: Tensor
    ritz: Tensor


@dataclass
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
        rows, columns = (Basis(each.vectors[chains], each.projected[chains], each.size) for each in (self.rows, self.columns))
        return TwoSided(rows, columns, self.tokens[chains])

    @property
    def rounding(self) -> Tensor:
        """(chain,): the rounding of a product, which is an error of the operator."""
        size = torch.linalg.matrix_norm(self.rows.projected.double())
        return _NOISE * torch.finfo(self.rows.vectors.dtype).eps * size.clamp_min(1)

    def eigenpair(self, order: Callable[[Tensor], Tensor] = torch.abs) -> Eigenpair:
        """Returns the eigenvalue that is first in `order` (largest), refined by both sides."""
        m = self.rows.size
        H, G = (basis.projected[:, : m + 1, :m].double() for basis in (self.rows, self.columns))
        ritz = eigenvalues_of(torch.cat([H[:, :m], G[:, :m]]))
        mine, theirs = ritz.chunk(2)
        value = _picked(mine, order(mine).argmax(-1))
        value = torch.complex(value.real, value.imag.abs())
        near = _picked(theirs, (theirs - value[:, None]).abs().argmin(-1))
        s, first, last = _ritz_vector(H, value)
        u, first_u, last_u = _ritz_vector(G, near)
        gram = torch.bmm(self.rows.vectors[:, : m + 1], self.columns.vectors[:, :m].mT).to(u.dtype)
        along = torch.bmm(gram, u[..., None])[..., 0]  # of the column z, on the basis of the rows
        overlap = (s * along[:, :m]).sum(-1)
        refined = value + (first * along[:, 0] + last * along[:, m]) / overlap
        residual, residual_u = ((a.abs().square() + b.abs().square()).sqrt() for a, b in ((first, last), (first_u, last_u)))
        error = (2 * torch.minimum(residual, residual_u) + self.rounding) / overlap.abs()
        return Eigenpair(refined, error.nan_to_num(torch.inf), torch.cat([mine, theirs], -1))

    def log_chance(self, points: Tensor) -> Tensor:
        """Returns a bound on log P(the starts hide an eigenvalue) at points (chain, point), at most zero."""
        density = (4 * self.tokens / math.pi).sqrt()[:, None]
        hidden = torch.stack([self._hidden(self.rows, points), self._hidden(self.columns, points)]) * density
        return hidden.nan_to_num(1).clamp(1e-300, 1).log().sum(0)

    def _hidden(self, basis: Basis, points: Tensor) -> Tensor:
        """Returns the largest part (chain, point) that a unit eigenvector of a point can have along the start."""
        m = basis.size
        H = basis.projected[:, :m, :m].to(points.dtype)[:, None]
        shifted = points[..., None, None] * torch.eye(m, dtype=points.dtype, device=points.device) - H
        first = torch.eye(m, 1, dtype=points.dtype, device=points.device)
        u, _ = torch.linalg.solve_ex(shifted, first.expand(*points.shape, m, 1))
        outside = basis.projected[:, m, m - 1].double()[:, None] * u[..., -1, 0].abs()
        return outside + self.rounding[:, None] * math.sqrt(m) * torch.linalg.vector_norm(u[..., 0], dim=-1)


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
    s = torch.zeros(len(H), m, dtype=value.dtype, device=H.device)
    s[:, m - 1] = 1
    H = H.to(value.dtype)
    for i in range(m - 1, 0, -1):
        below = H[:, i, i - 1]
        rest = value * s[:, i] - (H[:, i, i:] * s[:, i:]).sum(-1)
        s[:, i - 1] = rest / torch.where(below == 0, 1e-30, below)
        s[:, i - 1 :] /= s[:, i - 1 : i].abs().clamp_min(1)
    s = s / torch.linalg.vector_norm(s, dim=-1, keepdim=True)
    return s, (H[:, 0] * s).sum(-1) - value * s[:, 0], H[:, m, m - 1] * s[:, m - 1]
