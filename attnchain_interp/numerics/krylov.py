"""Krylov subspaces of many chains at once: one Arnoldi process gives stationary vectors and second eigenvalues.

v ↦ vP maps row vectors that sum to zero to such vectors, and there the eigenvalues are λ₂ … λₙ: the first is gone, exactly.
A basis V of the Krylov space of a start in that space, with V P = H V up to one vector, gives

- the stationary vector of the damped chain for any damping: GMRES, a least-squares problem with I − damping · H;
- |λ₂|: the spectral radius of H.

Vectors are rows (chain, m, token). Sources: Saad, *Iterative Methods for Sparse Linear Systems*, 2003 (Arnoldi, GMRES);
Golub & Greif, *An Arnoldi-type algorithm for computing PageRank*, 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[Tensor], Tensor]

SIZES: Final = (16, 24, 36, 52, 76, 104, 144)  # of the basis, where convergence is looked at
_SQUARINGS: Final = 20
_UNSCALED: Final = 3  # squarings in a row that float32 stands without scaling
_RESTARTS: Final = 20


@dataclass(eq=False)
class Basis:
    """An orthonormal basis and the projected product, grown step by step.

    Attributes:
        directions: (chain, 1 + room, token). The first is the direction that is left out, zero if there is none. The next
            `size` + 1 are the basis, the others zero.
        along: (chain, step, 1 + room). Entry ji is the part of (vector j times P) along direction i.
        size: the number of products that have been projected.
    """

    directions: Tensor
    along: Tensor
    size: int = 0

    @classmethod
    def started_at(cls, start: Tensor, left_out: Tensor | None = None) -> Basis:
        """Returns a basis of one vector (chain, 1, token), normalised here.

        Args:
            start: orthogonal to `left_out`.
            left_out: (chain, 1, token), a direction to which the basis stays orthogonal.
        """
        two = torch.cat([torch.zeros_like(start) if left_out is None else left_out, start], 1)
        length = torch.linalg.vector_norm(two, dim=-1, keepdim=True).clamp_min(torch.finfo(start.dtype).tiny)
        return cls(two / length, start.new_zeros(len(start), 0, 2))

    def grow(self, product: Product, size: int) -> None:
        """Adds vectors until `size` products are projected. Gram–Schmidt is done twice: once loses orthogonality.

        A step is few calls, each on all directions that there will be. In small chains the calls take the time.
        """
        steps = size - self.size
        self.directions = every = F.pad(self.directions, (0, 0, 0, size + 2 - self.directions.shape[1]))
        columns, vectors = every.mT, every.split(1, 1)
        least = 10 * torch.finfo(every.dtype).eps
        found, lengths = [], []
        for j in range(self.size + 1, size + 1):
            new = product(vectors[j])
            before = torch.linalg.vector_norm(new, dim=-1, keepdim=True)
            along = torch.bmm(new, columns)
            new = torch.baddbmm(new, along, every, alpha=-1)
            again = torch.bmm(new, columns)
            new.baddbmm_(again, every, alpha=-1)
            length = torch.linalg.vector_norm(new, dim=-1, keepdim=True)
            length.masked_fill_(length <= least * before, torch.inf)  # the space is exhausted: what is left is rounding
            torch.div(new, length, out=vectors[j + 1])
            found.append(along.add_(again))
            lengths.append(length)
        self.along = F.pad(self.along, (0, size + 2 - self.along.shape[2], 0, steps))
        if steps:
            self.along[:, self.size :] = torch.cat(found, 1)
            length = torch.cat(lengths, 1)[..., 0]
            self.along.diagonal(2, 1, 2)[:, self.size :] = length.masked_fill(length.isinf(), 0)
        self.size = size

    def of(self, chains: Tensor) -> Basis:
        """Returns the bases of some chains."""
        return Basis(self.directions[chains], self.along[chains], self.size)

    @property
    def vectors(self) -> Tensor:
        """(chain, size + 1, token): the basis."""
        return self.directions[:, 1:]

    @property
    def projected(self) -> Tensor:
        """(chain, size + 1, size): H. Its entry ij is the part of (vector j times P) along vector i."""
        return self.along[..., 1:].mT

    @property
    def square(self) -> Tensor:
        """(chain, size, size): H without its last row."""
        return self.projected[:, :-1]

    def minimal_residual(self, coefficient: float, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the y (chain, 1, token) in the basis with least ‖β·start − y (I − coefficient·P)‖₂, and that norm (chain,).

        The norm is infinite where the small problem is singular to working precision.
        """
        m = self.size
        system = _shifted(self.projected, coefficient)
        right = torch.zeros(len(system), m + 1, 1, dtype=torch.float64, device=system.device)
        right[:, 0, 0] = beta.double()
        factor, failed = torch.linalg.cholesky_ex(system.mT @ system)
        y = torch.cholesky_solve(system.mT @ right, factor)
        residual = (right - system @ y).norm(dim=1)[:, 0].masked_fill(failed > 0, torch.inf)
        combined = torch.bmm(y.mT.to(self.vectors.dtype), self.vectors[:, :m])
        return combined, residual.nan_to_num(torch.inf)


def least_residual(projected: Tensor, coefficient: float, beta: Tensor) -> Tensor:
    """Returns the norm (chain,) that `Basis.minimal_residual` would leave, without its vector, from H (chain, m + 1, m).

    A row c with c (I − coefficient·H) = 0 that begins with 1 tells it: the norm is β / ‖c‖. NaN where the space is exhausted.
    """
    system = _shifted(projected, coefficient)
    c = torch.linalg.solve_triangular(system[:, 1:], system[:, :1], upper=True, left=False)
    return beta.double() / (1 + torch.linalg.vector_norm(c, dim=(1, 2)).square()).sqrt()


def _shifted(projected: Tensor, coefficient: float) -> Tensor:
    system = -coefficient * projected.double()
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    return system


def spectral_radius(square: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest modulus among the eigenvalues of H (chain, m, m), (chain,), and the moduli in its vector (chain, m).

    Gelfand's formula ‖H^k‖^(1/k) with k = 2²⁰, by repeated squaring, needs batched products only and includes complex pairs.
    It is too large by ln κ / k, where κ is the condition number of the eigenvalue.
    The limiting power has rank one (two for a pair): its rows are as long as the entries of the Ritz vector are large.
    """
    power, least = square, torch.finfo(square.dtype).tiny
    logarithm = torch.zeros(len(square), dtype=torch.float64, device=square.device)
    for done in range(_SQUARINGS):
        if done % _UNSCALED == 0:
            size = torch.linalg.matrix_norm(power).clamp_min(least)
            logarithm += size.log() / 2**done
            power = power / size[:, None, None]
        power = torch.bmm(power, power)
    size = torch.linalg.matrix_norm(power)[:, None]
    radius = (logarithm + size[:, 0].clamp_min(least).log() / 2**_SQUARINGS).exp()
    # a nilpotent H has no Ritz vector in its limit: only an exhausted space makes its radius of zero believable
    return radius, torch.where(size > least, torch.linalg.vector_norm(power, dim=-1) / size.clamp_min(least), 1)


def centred(v: Tensor, uniform: Tensor) -> Tensor:
    """Returns v (chain, 1, token) minus its sum times the uniform distribution over the states: it sums to zero."""
    return torch.addcmul(v, v.sum(-1, keepdim=True), uniform, value=-1)


def scattered(jump: Tensor, uniform: Tensor) -> Tensor:
    """Returns the distribution `jump` (chain, 1, token) with a tenth of unevenness over all states.

    A Krylov space keeps the symmetries of its start, and the states that can be reached from it. It would see one of two
    equal blocks, and miss that the chain hardly mixes. The unevenness is the same at every call.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(jump.shape[-1], generator=generator, dtype=torch.float64, device="cpu")
    uneven = jump + 0.2 * noise.to(jump.device, jump.dtype) * uniform
    return uneven / uneven.sum(-1, keepdim=True)


def random_starts(uniform: Tensor, number: int) -> Tensor:
    """Returns independent random unit vectors (number, chain, 1, token), the same at every call.

    They sum to zero over the states and are zero elsewhere.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, 1, 1, uniform.shape[-1], generator=generator, dtype=torch.float64, device="cpu")
    starts = centred(noise.to(uniform.device, uniform.dtype) * (uniform > 0), uniform)
    return starts / starts.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(uniform.dtype).tiny)


def l1_bound(residual: Tensor, states: Tensor) -> Tensor:
    """Returns a bound on the L1 norm of vectors over the states, from their L2 norm (chain,)."""
    return residual * math.sqrt(int(states.sum(-1).max()))


def gmres(product: Product, right: Tensor, target: Tensor, enough: Callable[[Tensor, Tensor], bool]) -> tuple[Tensor, bool]:
    """Returns the x (chain, 1, token) with x − product(x) = right by restarted GMRES, and whether it is found.

    Args:
        product: v ↦ vM.
        right: (chain, 1, token).
        target: (chain,), the L2 norm of the residual at which a basis has grown enough.
        enough: whether an x and its residual are good enough.
    """
    n, residual, x = right.shape[-1], right, torch.zeros_like(right)
    sizes = [size for size in SIZES if size < n] or [n]
    for _ in range(_RESTARTS):
        basis, beta = Basis.started_at(residual), residual.norm(dim=-1)[:, 0]
        correction = x
        for size in sizes:
            basis.grow(product, size)
            correction, left = basis.minimal_residual(1.0, beta)
            if bool((left <= target).all()):
                break
        x = x + correction
        residual = right - (x - product(x))
        if enough(x, residual):
            return x, True
    return x, False
