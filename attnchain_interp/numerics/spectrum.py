"""|λ₂| of maps by a dense eigensolver in float64, certified by the pseudospectrum.

A Schur form in float64 is that of a matrix that differs by ε = n · 2⁻⁵³ ‖M‖. Where ‖(λ − M)⁻¹‖ < 1/ε on a closed curve, no
matrix so near has an eigenvalue on the curve, so as many lie inside of it for one as for the other. A small circle around the
computed λ₂ shows that there is such an eigenvalue, a circle around zero that there is no larger one. Where a chain is too far
from normal for any computation in float64, the answer is the pseudospectral radius: the modulus that an eigenvalue of a matrix
so near can have. Source: Trefethen & Embree, *Spectra and Pseudospectra*, 2005.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.numerics.direct import eigenvalues_of

_CERTIFIED: Final = 1100  # tokens up to which the resolvent is looked at
_SAFETY: Final = 4  # the norm of a resolvent is estimated from below
_STEPS: Final = 3
_NEAR: Final = 24  # eigenvalues near a circle whose angles are looked at
_ROOM: Final = 2**22  # entries of shifted matrices at a time
_BISECTIONS: Final = 12


def certified_spectrum(maps: Tensor, states: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Returns |λ₂| (chain,) in float64, and whether each is within `tolerance`.

    Args:
        maps: (chain, token, token), whose rows are proportional to the transition probabilities.
        states: (chain, token) bool.
        tolerance: the error of |λ₂| that is allowed.
    """
    found = [_second(P[here][:, here], tolerance) for P, here in zip(maps.cpu().double(), states.cpu(), strict=True)]
    radii, known = zip(*found, strict=True)
    return torch.tensor(radii, dtype=torch.float64, device=maps.device), torch.tensor(known, device=maps.device)


def _second(P: Tensor, tolerance: float) -> tuple[float, bool]:
    import scipy.linalg

    n = len(P)
    if n == 1:
        return 0.0, True
    P = P / P.sum(-1, keepdim=True)
    M = P - P.mean(0)  # the same eigenvalues, but zero in place of one
    if n > _CERTIFIED:
        return float(eigenvalues_of(M).abs().max()), False
    T = torch.from_numpy(scipy.linalg.schur(M.numpy(), output="complex")[0])
    values = T.diagonal()
    second = values[values.abs().argmax()]
    radius, nearest = float(second.abs()), _SAFETY * n * np.finfo(float).eps / 2 * float(torch.linalg.matrix_norm(M))

    def free(points: Tensor) -> bool:
        return bool((_resolvent(T, points) * nearest < 1).all())

    def none_beyond(r: float) -> bool:
        return r >= 1 or free(_circle(r, values))

    eighths = torch.arange(8, dtype=torch.float64, device="cpu") * math.pi / 4
    there = radius <= tolerance or free(second + torch.polar(torch.full_like(eighths, tolerance), eighths))
    if there and none_beyond(radius + tolerance):
        return radius, True
    low, high = radius, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if none_beyond(middle) else (middle, high)
    return high, False


def _circle(radius: float, values: Tensor) -> Tensor:
    near = values[(values.abs() - radius).abs().argsort()[:_NEAR]].angle()
    angles = torch.cat([near, torch.arange(16, dtype=torch.float64, device="cpu") * math.pi / 8])
    return torch.polar(torch.full_like(angles, radius), angles)


def _resolvent(T: Tensor, points: Tensor) -> Tensor:
    """Returns ‖(λ − T)⁻¹‖₂ (point,) of a triangular matrix, from below: some steps of the power method on two vectors."""
    n = len(T)
    random = torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    start = torch.complex(*random.chunk(2, -1))
    norms = []
    for some in points.split(max(1, _ROOM // n**2)):
        shifted = -T.expand(len(some), -1, -1).clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(some[:, None])
        x, size = start, points.real
        for _ in range(_STEPS):
            x = x / torch.linalg.vector_norm(x, dim=-2, keepdim=True)
            x = torch.linalg.solve_triangular(shifted, x.expand(len(some), -1, -1), upper=True)
            size = torch.linalg.vector_norm(x, dim=-2)
            x = torch.linalg.solve_triangular(shifted.mH, x, upper=False)
        norms.append(size.amax(-1).nan_to_num(torch.inf))
    return torch.cat(norms)
