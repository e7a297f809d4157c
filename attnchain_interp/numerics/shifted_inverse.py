"""(I − 0.99 M)⁻¹, which sets the eigenvalues of M near one apart: a short Krylov basis is then enough."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from attnchain_interp.numerics.direct import inverse_of

SHIFT: Final = 0.99
APART: Final = 3.0  # modulus from which an eigenvalue of the inverse stands apart from the many near one
SIZES: Final = (12, 16, 22, 28, 40)  # of the basis, where convergence is looked at


def shifted_inverse(maps: Tensor) -> Tensor:
    """Returns (I − 0.99 M)⁻¹ (chain, token, token) of maps M.

    >>> import torch
    >>> shifted_inverse(torch.eye(1)[None]).round()
    tensor([[[100.]]])
    """
    return inverse_of(maps, SHIFT)


def ahead(values: Tensor) -> Tensor:
    """Returns the eigenvalues of the inverse by which eigenvalues of M stand."""
    return 1 / (1 - SHIFT * values)


def behind(values: Tensor) -> Tensor:
    """Returns the eigenvalues of M that eigenvalues of the inverse stand for."""
    return (1 - 1 / values) / SHIFT
