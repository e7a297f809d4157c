"""(I − 0.99 M)⁻¹, which sets the eigenvalues of M near one apart: a short Krylov basis is then enough."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from attnchain_interp.numerics.direct import inverse_of_dominant

SHIFT: Final = 0.99
APART: Final = 3.0  # modulus from which an eigenvalue of the inverse stands apart from the many near one
SIZES: Final = (12, 16, 22, 28, 40)  # of the basis, where convergence is looked at


@final
class ShiftedInverse:
    """The products with (I − 0.99 M)⁻¹ of maps M (chain, token, token).

    The blocks of an elimination by halves are multiplied by the vectors, not with each other. The products then cost as much,
    and the blocks half of the inverse.
    """

    def __init__(self, maps: Tensor) -> None:
        half = maps.shape[-1] // 2
        system = maps * -SHIFT
        system.diagonal(dim1=-2, dim2=-1).add_(1)
        above, below = system[:, :half, half:], system[:, half:, :half]
        first = inverse_of_dominant(system[:, :half, :half])
        self._first = torch.cat([first, first @ above], -1)
        self._last = inverse_of_dominant(system[:, half:, half:] - below @ self._first[..., half:])
        self._below = below @ first

    def __call__(self, v: Tensor) -> Tensor:
        """Returns v (I − 0.99 M)⁻¹ for rows v (chain, m, token).

        >>> import torch
        >>> ShiftedInverse(torch.eye(2)[None])(torch.ones(1, 1, 2)).round()
        tensor([[[100., 100.]]])
        """
        half = self._below.shape[-1]
        here, there = torch.bmm(v[..., :half], self._first).tensor_split([half], -1)
        last = torch.bmm(v[..., half:] - there, self._last)
        return torch.cat([torch.baddbmm(here, last, self._below, alpha=-1), last], -1)

    def of_columns(self, x: Tensor) -> Tensor:
        """Returns (I − 0.99 M)⁻¹ x for columns x, written as rows (chain, m, token)."""
        half = self._below.shape[-1]
        last = torch.bmm(torch.baddbmm(x[..., half:], x[..., :half], self._below.mT, alpha=-1), self._last.mT)
        return torch.cat([torch.bmm(torch.cat([x[..., :half], -last], -1), self._first.mT), last], -1)

    def keep(self, chains: Tensor) -> None:
        """Drops the other chains."""
        self._first, self._last, self._below = self._first[chains], self._last[chains], self._below[chains]


def ahead(values: Tensor) -> Tensor:
    """Returns the eigenvalues of the inverse by which eigenvalues of M stand."""
    return 1 / (1 - SHIFT * values)


def behind(values: Tensor) -> Tensor:
    """Returns the eigenvalues of M that eigenvalues of the inverse stand for."""
    return (1 - 1 / values) / SHIFT
