"""The dense certificate beside spectra in multiple precision."""

import mpmath
import pytest
import torch
from torch import Tensor

from attnchain_interp.numerics import spectrum
from attnchain_interp.numerics.spectrum import certified_spectrum

from ..chains import attention


def one_way(n: int, left: float = 0.75, right: float = 0.05) -> tuple[Tensor, float]:
    """A "previous token" head, and its |λ₂| in closed form. Its condition grows as (left / right)^(n / 2)."""
    P = torch.diag(torch.full((n,), 1 - left - right).double())
    P += torch.diag(torch.full((n - 1,), right).double(), 1) + torch.diag(torch.full((n - 1,), left).double(), -1)
    P[0, 0] += left
    P[-1, -1] += right
    return P, float(1 - left - right + 2 * mpmath.sqrt(left * right) * mpmath.cospi(mpmath.mpf(1) / n))


def every(P: Tensor) -> Tensor:
    return torch.ones(P.shape[:-1], dtype=torch.bool)


def test_what_float64_can_tell_is_certified_and_the_rest_is_bounded() -> None:
    for n, certain in ((2, True), (12, True), (40, False), (120, False)):
        P, true = one_way(n)
        radius, known = certified_spectrum(P[None], every(P[None]), 1e-4)
        assert bool(known) == certain
        if certain:
            assert float(radius) == pytest.approx(true, abs=1e-6)
        else:
            assert true + 0.01 < float(radius) < 0.99, "the pseudospectral radius"


def test_a_random_chain_beside_multiple_precision() -> None:
    P = attention(10, 2, 6.0).double()
    P = P / P.sum(-1, keepdim=True)
    radius, known = certified_spectrum(P, every(P), 1e-9)
    assert known.all()
    with mpmath.workdps(40):
        for each, matrix in zip(radius.tolist(), P.tolist(), strict=True):
            values = mpmath.eig(mpmath.matrix(matrix), left=False, right=False)
            assert each == pytest.approx(float(sorted(abs(value) for value in values)[-2]), abs=1e-12)


def test_other_tokens_are_left_out_and_single_ones_have_none() -> None:
    P = torch.eye(5).double().roll(1, 1)[None]
    states = torch.tensor([[True, False, True, True, False]])
    inside = torch.zeros(1, 5, 5).double()
    inside[0, :, 0] = inside[0, :, 3] = 0.5
    inside[0, 3, 0], inside[0, 3, 3] = 0.25, 0.75
    radius, known = certified_spectrum(torch.cat([P, inside]), torch.cat([every(P), states]), 1e-6)
    assert known.all()
    assert radius.tolist() == pytest.approx([1, 0.25])
    radius, known = certified_spectrum(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), 1e-6)
    assert (radius.tolist(), known.tolist()) == ([0], [True])


def test_a_tolerance_finer_than_the_chain_allows_and_maps_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    P, true = one_way(20)
    assert certified_spectrum(P[None], every(P[None]), 1e-2)[1].all()
    assert not certified_spectrum(P[None], every(P[None]), 1e-6)[1].any()
    monkeypatch.setattr(spectrum, "_CERTIFIED", 10)
    radius, known = certified_spectrum(P[None], every(P[None]), 1e-2)
    assert not known.any()
    assert float(radius) == pytest.approx(true, abs=1e-2), "an eigenvalue as computed"
