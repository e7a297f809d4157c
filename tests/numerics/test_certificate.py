"""The two halves of the certificate: there is such an eigenvalue, and there is none beyond it."""

import math

import pytest
import torch
from torch import Tensor

from attnchain_interp.numerics.certificate import OVERLOOKED, TwoSided, _solved_below, certified, on_circle
from attnchain_interp.numerics.krylov import Basis


def spaces_of(M: Tensor, row: Tensor, column: Tensor, size: int) -> TwoSided:
    spaces = TwoSided(
        Basis.started_at(row[None, None]), Basis.started_at(column[None, None]), torch.tensor([float(len(M))]).double()
    )
    spaces.grow(lambda v: v @ M, lambda w: w @ M.mT, size)
    return spaces


def random(n: int, number: int) -> list[Tensor]:
    return list(torch.randn(number, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


def test_an_eigenvalue_is_refined_by_both_sides_and_certified() -> None:
    row, column = random(60, 2)
    M = 0.3 * torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / math.sqrt(60)
    M[0, 0] += 0.9
    true = torch.linalg.eigvals(M).abs().max()
    early, late = spaces_of(M, row, column, 8), spaces_of(M, row, column, 30)
    pair = early.eigenpair()
    one_sided = torch.linalg.eigvals(early.rows.projected[0, :8, :8]).abs().max()
    assert abs(pair.value.abs() - true) < 0.1 * abs(one_sided - true)
    assert not certified(pair, early, 1e-6).any(), "too early for an answer"
    pair = late.eigenpair()
    assert abs(pair.value.abs() - true) < 1e-12
    assert certified(pair, late, 1e-6).all()
    assert late.of(torch.tensor([0])).rows.size == 30


def test_the_error_counts_the_condition_of_the_eigenvalue() -> None:
    """Both matrices have the eigenvalue 0.5. A change of 1e-9 moves it by as much in the first, by 1e-3 in the second."""
    row, column = random(12, 2)
    normal = torch.diag(torch.linspace(0.5, -0.2, 12, dtype=torch.float64))
    skew = normal.clone()
    skew[0, 1] = 1e5
    errors = [float(spaces_of(M, row, column, 12).eigenpair().error) for M in (normal, skew)]
    assert errors[0] < 1e-12
    assert errors[1] > 1e4 * errors[0]


def test_a_larger_eigenvalue_that_the_starts_hardly_touch_is_not_excluded() -> None:
    """Seen of neither side, it may still be there after few products. After many, no random start would hide it so well."""
    n = 40
    M = torch.diag(torch.cat([torch.tensor([0.9, 0.8]), torch.linspace(0.1, -0.1, n - 2)]).double())
    row, column = random(n, 2)
    row[0] *= 1e-9  # an eigenvalue of 0.9, of which nothing is seen
    column[0] *= 1e-9
    for size, excluded in ((4, False), (10, True)):
        spaces = spaces_of(M, row, column, size)
        pair = spaces.eigenpair()
        assert abs(float(pair.value.abs()) - 0.8) < 1e-3
        chance = float(spaces.log_chance(torch.tensor([[0.9 + 0j]], dtype=torch.complex128)))
        assert (chance <= math.log(OVERLOOKED[2])) == excluded, "a start so unlikely is taken for impossible, in time"


def test_nothing_is_excluded_next_to_an_eigenvalue() -> None:
    row, column = random(30, 2)
    M = torch.diag(torch.linspace(0.9, -0.3, 30, dtype=torch.float64))
    spaces = spaces_of(M, row, column, 20)
    points = torch.tensor([[0.9 + 1e-9j, 0.95, -0.9]], dtype=torch.complex128)
    near, off, across = spaces.log_chance(points)[0].tolist()
    assert near > math.log(OVERLOOKED[2]) > max(off, across)


def test_points_on_a_circle_include_the_angles_of_ritz_values() -> None:
    near = torch.tensor([[0.1 + 0j, 0.5j, -0.4 + 0.4j]])
    points = on_circle(torch.tensor([0.7]), near, largest=2)[0]
    assert torch.allclose(points.abs(), torch.full((11,), 0.7).double())
    assert torch.allclose(points[:2].angle().sort().values, torch.tensor([math.pi / 2, 3 * math.pi / 4]).double())


@pytest.mark.parametrize("rank", [40, 5])
def test_the_chance_is_that_of_a_dense_solver(rank: int) -> None:
    """Of the resolvent of H, also where the space is exhausted, and H is zero from there on."""
    row, column = random(40, 2)
    M = 0.1 * torch.randn(40, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    M[:, rank:] = 0
    spaces = spaces_of(M, row, column, 12)
    points = torch.polar(torch.tensor([[0.9, 0.9, 1.4, 2.0]]).double(), torch.tensor([[0.0, 1.0, 2.0, 3.0]]).double())
    rounding, expected = float(spaces.rounding), torch.zeros(4, dtype=torch.float64)
    for basis in (spaces.rows, spaces.columns):
        H = basis.projected[0]
        first = torch.eye(12, dtype=points.dtype)[0]
        u = torch.stack([torch.linalg.solve(point * torch.eye(12) - H[:12, :12], first) for point in points[0]])
        outside = H[12, 11] * u[:, -1].abs() + rounding * math.sqrt(12) * torch.linalg.vector_norm(u, dim=-1)
        expected += (outside * math.sqrt(4 * 40 / math.pi)).clamp_max(1).log()
    assert torch.allclose(spaces.log_chance(points)[0], expected, rtol=1e-6)
    assert (expected < -1).all()


def test_entries_below_are_scaled_before_their_squares_overflow() -> None:
    H = torch.diag(torch.full((39,), 2e-15, dtype=torch.float64), -1)[None] + torch.eye(40, dtype=torch.float64).flip(0) / 9
    s, left = _solved_below(H.triu(-1), torch.tensor([[0.7 + 0.2j]], dtype=torch.complex128))
    assert bool(torch.linalg.vector_norm(s, dim=1).isfinite().all())
    assert bool(left.isfinite().all())
