"""Krylov subspaces beside dense linear algebra."""

import pytest
import torch

from attnchain_interp.numerics.krylov import (
    Basis,
    centred,
    gmres,
    l1_bound,
    least_residual,
    random_starts,
    scattered,
    spectral_radius,
)


def test_spectral_radius_of_real_and_complex_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    H = torch.randn(20, 12, 12, generator=generator, dtype=torch.float64) / 4
    radius, entries = spectral_radius(H)
    values, vectors = torch.linalg.eig(H)
    assert torch.allclose(radius, values.abs().amax(-1), rtol=5e-6)
    first = values.abs().argmax(-1)
    real = values.imag.gather(-1, first[:, None])[:, 0] == 0
    assert 0 < int(real.sum()) < 20
    assert torch.allclose(entries[real], vectors[torch.arange(20), :, first].abs()[real], atol=1e-5)
    assert spectral_radius(torch.diag(torch.tensor([3.0, 1.0, 0.5]))[None])[1].tolist() == [[1, 0, 0]]
    radius, entries = spectral_radius(torch.diag(torch.ones(3), 1)[None])
    assert float(radius) < 1e-4
    assert entries.tolist() == [[1, 1, 1, 1]], "nilpotent: it has no Ritz vector"


@pytest.mark.parametrize("scale", [1e-4, 1, 100])
def test_squarings_neither_overflow_nor_vanish_in_float32(scale: float) -> None:
    H = torch.randn(20, 12, 12, generator=torch.Generator().manual_seed(0)) * scale
    assert torch.allclose(spectral_radius(H)[0].float(), torch.linalg.eigvals(H).abs().amax(-1), rtol=2e-5)


def test_an_exhausted_space_stops_growing() -> None:
    """Three different rows: after two products nothing new is left, and rounding is not taken for more."""
    P = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).softmax(-1).repeat_interleave(20, 0)
    P = (P.repeat_interleave(20, 1) / 20)[None].double()
    start = torch.linspace(-1, 1, 60).double()[None, None]
    basis = Basis.started_at(start)
    basis.grow(lambda v: torch.bmm(v, P), 10)
    assert not basis.vectors[0, 5:].any()
    gram = basis.vectors[0] @ basis.vectors[0].T
    assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-10)


def test_a_basis_does_not_depend_on_the_size_of_the_product() -> None:
    P = torch.randn(2, 60, 60, generator=torch.Generator().manual_seed(0)) / 60**0.5
    start = torch.randn(2, 1, 60, generator=torch.Generator().manual_seed(1))
    large, small = Basis.started_at(start), Basis.started_at(start)
    large.grow(lambda v: torch.bmm(v, P), 8)
    small.grow(lambda v: torch.bmm(v, 2.0**-30 * P), 8)
    assert torch.allclose(small.vectors, large.vectors, atol=1e-5)
    assert torch.allclose(2.0**30 * small.projected, large.projected, atol=1e-5)


def test_the_minimal_residual_of_a_full_basis_solves_the_system() -> None:
    P = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(1)).softmax(-1).double()
    start = torch.eye(6).double()[:1].expand(2, 1, 6)
    basis = Basis.started_at(3 * start)
    basis.grow(lambda v: torch.bmm(v, P), 6)
    y, residual = basis.minimal_residual(0.9, torch.full((2,), 3.0).double())
    assert torch.allclose(y, 3 * start @ torch.linalg.inv(torch.eye(6).double() - 0.9 * P), atol=1e-9)
    assert float(residual.max()) < 1e-9


def test_the_least_residual_is_told_without_the_vector() -> None:
    P = torch.randn(5, 40, 40, generator=torch.Generator().manual_seed(1)).softmax(-1).double()
    basis = Basis.started_at(torch.randn(5, 1, 40, generator=torch.Generator().manual_seed(2)).double())
    beta = torch.linspace(0.1, 1, 5).double()
    for size in (1, 3, 8):
        basis.grow(lambda v: torch.bmm(v, P), size)
        expected = basis.minimal_residual(0.9, beta)[1]
        assert torch.allclose(least_residual(basis.projected[:, : size + 1, :size], 0.9, beta), expected, rtol=1e-6)
    uniform = torch.full((1, 4, 4), 0.25).double()
    basis = Basis.started_at(torch.tensor([[[1.0, 0, 0, 0]]]).double())
    basis.grow(lambda v: torch.bmm(v, uniform), 3)
    assert not float(least_residual(basis.projected[:, :4, :3], 0.9, beta[:1])) > 1e-9, "the space is exhausted"


def test_starts_are_centred_and_scattered_over_the_states() -> None:
    uniform = torch.tensor([[[0.5, 0.5, 0.0]]])
    jump = torch.tensor([[[1.0, 0.0, 0.0]]])
    assert centred(jump, uniform).tolist() == [[[0.5, -0.5, 0.0]]]
    uneven = scattered(jump, uniform)
    assert float(uneven.sum()) == pytest.approx(1)
    assert uneven[0, 0, 1] > 0
    assert uneven[0, 0, 2] == 0
    states = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.allclose(l1_bound(torch.tensor([2.0]), states), torch.tensor(2 * 3**0.5))


def test_random_starts_are_independent_and_the_same_at_every_call() -> None:
    uniform = torch.cat([torch.full((1, 60), 1 / 60), torch.full((1, 60), 1 / 60)], 1)[:, None] * 1.0
    uniform[..., 60:] = 0
    first, second = random_starts(uniform, 2)
    assert torch.equal(random_starts(uniform, 1)[0], first)
    assert float(first.norm()) == pytest.approx(1)
    assert abs(float(first.sum())) < 1e-5
    assert not first[..., 60:].any()
    assert abs(float((first * second).sum())) < 0.5


def test_gmres_solves_or_says_so() -> None:
    P = torch.randn(2, 30, 30, generator=torch.Generator().manual_seed(2)).softmax(-1).double()
    right = torch.rand(2, 1, 30, generator=torch.Generator().manual_seed(3)).double()
    target = torch.full((2,), 1e-10).double()
    small = lambda _, residual: bool((residual.norm(dim=-1) < 1e-9).all())  # noqa: E731
    x, found = gmres(lambda v: torch.bmm(v, 0.9 * P), right, target, small)
    assert found
    assert torch.allclose(x, right @ torch.linalg.inv(torch.eye(30).double() - 0.9 * P))
    assert not gmres(lambda v: torch.bmm(v, P), right, target, small)[1], "I − P is singular"
