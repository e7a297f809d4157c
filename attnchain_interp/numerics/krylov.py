"""Krylov subspaces of many chains at once: one Arnoldi process gives stationary vectors and second eigenvalues.

v ↦ vP leaves the row vectors that sum to zero to themselves, and there the eigenvalues are λ₂ … λₙ: the first is gone,
exactly. A basis V of the Krylov space of a start in that space, with V P = H V up to one vector, gives

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
_SQUARINGS: Final = 16


@dataclass
class Basis:
    """An orthonormal basis and the projected product, grown step by step.

    Attributes:
        vectors: (chain, room, token), orthonormal rows as far as `size` + 1.
        projected: (chain, room, room): H, whose entry ij is the part of (vector j times P) along vector i.
        size: how many products have been projected.
    """

    vectors: Tensor
    projected: Tensor
    size: int = 0

    @classmethod
    def started_at(cls, start: Tensor) -> Basis:
        """A basis of one vector (chain, 1, token), normalised here."""
        length = start.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(start.dtype).tiny)
        return cls(start / length, start.new_zeros(len(start), 1, 1))

    def grow(self, product: Product, size: int) -> None:
        """Adds vectors until `size` products are projected. Gram–Schmidt is done twice: once loses orthogonality."""
        room = self.vectors.shape[1]
        if size + 1 > room:
            more = size + 1 - room
            self.vectors = F.pad(self.vectors, (0, 0, 0, more))
            self.projected = F.pad(self.projected, (0, more, 0, more))
        least = 10 * torch.finfo(self.vectors.dtype).eps
        for j in range(self.size, size):
            new = product(self.vectors[:, j : j + 1])
            before = new.norm(dim=-1)
            known = self.vectors[:, : j + 1]
            along = torch.bmm(new, known.mT)
            new = torch.baddbmm(new, along, known, alpha=-1)
            again = torch.bmm(new, known.mT)
            new = torch.baddbmm(new, again, known, alpha=-1)
            length = new.norm(dim=-1)
            length = length * (length > least * before)  # else the space is exhausted: what is left is rounding
            torch.add(along, again, out=self.projected[:, None, : j + 1, j])
            self.projected[:, j + 1, j] = length[:, 0]
            torch.mul(new[:, 0], torch.where(length > 0, 1 / length, 0), out=self.vectors[:, j + 1])
        self.size = size

    def keep(self, chains: Tensor) -> None:
        """Drops all chains but some."""
        self.vectors, self.projected = self.vectors[chains], self.projected[chains]

    @property
    def square(self) -> Tensor:
        """(chain, size, size): H without its last row."""
        return self.projected[:, : self.size, : self.size]

    @property
    def tail(self) -> Tensor:
        """(chain,): the length of what the basis does not hold of its last product."""
        return self.projected[:, self.size, self.size - 1]

    def minimal_residual(self, coefficient: float, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The y (chain, 1, token) in the basis with least ‖β·start − y (I − coefficient·P)‖₂, and that norm (chain,).

        Infinite where the small problem is singular to working precision.
        """
        m = self.size
        system = -coefficient * self.projected[:, : m + 1, :m].double()
        system[:, :m].diagonal(dim1=-2, dim2=-1).add_(1)
        right = torch.zeros(len(system), m + 1, 1, dtype=torch.float64, device=system.device)
        right[:, 0, 0] = beta.double()
        factor, failed = torch.linalg.cholesky_ex(system.mT @ system)
        y = torch.cholesky_solve(system.mT @ right, factor)
        residual = (right - system @ y).norm(dim=1)[:, 0].masked_fill(failed > 0, torch.inf)
        combined = torch.bmm(y.mT.to(self.vectors.dtype), self.vectors[:, :m])
        return combined, residual.nan_to_num(torch.inf)


def spectral_radius(square: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """The largest modulus among the eigenvalues of H (chain, m, m) and the residual of its Ritz vector, both (chain,).

    By Gelfand's formula, ‖H^k‖^(1/k) with k = 2¹⁶ by repeated squaring: batched products alone, complex pairs included. The
    limiting power has rank one (two for a pair), and its last row tells how much of the Ritz vector lies at the end of the
    basis, that is the residual.
    """
    power, share, least = square, 1.0, torch.finfo(square.dtype).tiny
    logarithm = torch.zeros(len(square), dtype=torch.float64, device=square.device)
    for _ in range(_SQUARINGS):
        size = torch.linalg.matrix_norm(power).clamp_min(least)
        logarithm += share * size.log()
        power = power / size[:, None, None]
        power = power @ power
        share /= 2
    size = torch.linalg.matrix_norm(power)
    radius = (logarithm + share * size.clamp_min(least).log()).exp()
    # a nilpotent H has no Ritz vector in its limit, so nothing but an exhausted space speaks for its radius of zero
    share_at_end = torch.where(size > least, power[:, -1].norm(dim=-1) / size.clamp_min(least), 1)
    return radius, tail * share_at_end


def centred(v: Tensor, uniform: Tensor) -> Tensor:
    """v (chain, 1, token) less its mean over the states, whose uniform distribution is given: it sums to zero."""
    return torch.addcmul(v, v.sum(-1, keepdim=True), uniform, value=-1)


def scattered(jump: Tensor, uniform: Tensor) -> Tensor:
    """The distribution `jump` (chain, 1, token) with a tenth of unevenness over all states, whose distribution is `uniform`.

    A Krylov space never leaves the symmetries of its start, nor the states that can be reached from it: of two equal blocks
    it would see one, and miss that the chain hardly mixes. The unevenness is the same at every call.
    """
    noise = torch.rand(jump.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uneven = jump + 0.2 * noise.to(jump.device, jump.dtype) * uniform
    return uneven / uneven.sum(-1, keepdim=True)


def l1_bound(residual: Tensor, states: Tensor) -> Tensor:
    """What an L2 norm (chain,) of vectors over the states says of the L1 norm."""
    return residual * math.sqrt(int(states.sum(-1).max()))
