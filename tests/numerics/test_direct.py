"""Exact solvers beside inverses, and closed classes by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.numerics import direct
from attnchain_interp.operators.operator import Dense

from ..chains import attention


def inverted(maps: Tensor, damping: float, jump: Tensor) -> Tensor:
    """jump (I − damping · M)⁻¹ in float64."""
    return (jump.double()[:, None] @ torch.linalg.inv(torch.eye(maps.shape[-1]).double() - damping * maps.double()))[:, 0]


@pytest.mark.parametrize("batch", [(), (3,), (2, 0), (2, 3)])
@pytest.mark.parametrize("n", [1, 32, 33, 130])
def test_halves_beside_the_inverse(batch: tuple[int, ...], n: int) -> None:
    P = (5 * torch.randn(*batch, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).softmax(-1)
    right = torch.randn(*batch, n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    system = torch.eye(n, dtype=torch.float64) - 0.99 * P
    for dominated_by in ("rows", "columns"):
        matrices = system if dominated_by == "rows" else system.mT
        assert torch.allclose(matrices @ direct.solve_dominant(matrices, right), right)
    assert torch.allclose(system @ direct.inverse_of_dominant(system), torch.eye(n, dtype=torch.float64).expand_as(P))


def test_damped_chains_beside_the_inverse() -> None:
    maps, jump = attention(12, 3), torch.full((3, 12), 1 / 12)
    assert torch.allclose(direct.solve_damped(maps, 0.9, jump), inverted(maps, 0.9, jump))


THREADS = """
import torch
from concurrent.futures import ThreadPoolExecutor
import attnchain_interp as ac

def solved(_):
    P = (6 * torch.randn(12, 200, 200, generator=torch.Generator().manual_seed(0))).softmax(-1).requires_grad_()
    ac.stationary(P).square().sum().backward()
    found = ac.mixing(P.detach(), tolerance=1e-4)
    visits = ac.expected_visits(ac.absorb(P.detach(), torch.arange(200) == 0))
    return [found.stationary, found.second_eigenvalue, found.converged, P.grad, visits]

runs = []
for threads, callers in ((1, 1), (2, 1), (2, 3)):
    torch.set_num_threads(threads)
    with ThreadPoolExecutor(callers) as pool:
        runs.append([*pool.map(solved, range(callers))][-1])
torch.save(runs, "runs.pt")
"""


def test_more_threads_than_one_give_the_same(tmp_path: Path) -> None:
    """torch's own LU hangs there: https://github.com/pytorch/pytorch/issues/142815."""
    subprocess.run([sys.executable, "-c", THREADS], cwd=tmp_path, check=True, timeout=120)  # noqa: S603
    for one, *others in zip(*torch.load(tmp_path / "runs.pt"), strict=True):
        assert all(torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-6) for other in others)


@pytest.mark.parametrize("upper", [False, True])
def test_triangular_solvers_beside_the_inverse(monkeypatch: pytest.MonkeyPatch, upper: bool) -> None:
    """Halved down to blocks of five tokens."""
    monkeypatch.setattr(direct, "_BLOCK", 5)
    maps = attention(33, 3, causal=True).double()
    maps = maps.flip(-1, -2) if upper else maps
    jump = torch.full((3, 33), 1 / 33).double()
    expected = inverted(maps, 0.9, jump)
    assert torch.allclose(direct.solve_triangular(maps, 0.9, jump, upper), expected)
    assert torch.allclose(direct.solve_triangular_halves(Dense(maps), 0.9, jump, upper), expected)


def test_elimination_leaves_other_tokens_out() -> None:
    a, b = 0.2, 0.05
    P = torch.tensor([[1 - a, 0, a], [0.5, 0, 0.5], [b, 0, 1 - b]]).double()
    pi = direct.eliminate(P[None], torch.tensor([[True, False, True]]))
    assert torch.allclose(pi, torch.tensor([[b, 0, a]]).double() / (a + b))


def test_second_eigenvalues() -> None:
    states = torch.tensor([[True, True, True], [True, False, True]])
    assert direct.second_of_diagonal(torch.tensor([1.0, 0.7, 0.4]).expand(2, 3), states).tolist() == pytest.approx([0.7, 0.4])
    assert direct.second_of_spectrum(torch.eye(5).roll(1, 1)[None]).tolist() == pytest.approx([1])
    assert direct.second_of_spectrum(torch.ones(2, 1, 1)).tolist() == [0, 0]


def test_closed_classes_are_named() -> None:
    P = torch.block_diag(torch.full((2, 2), 0.5), torch.eye(1), torch.eye(1))
    P[3] = 0.25
    every = torch.ones(4, dtype=torch.bool)
    with pytest.raises(AttentionError, match=r"2 closed classes \(\{0, 1\}, \{2\}\) and 1 transient"):
        direct.require_irreducible(P, every)
    direct.require_irreducible(P, torch.tensor([True, True, False, False]))


def test_a_gradient_takes_the_eigenvectors_of_one_eigenvalue() -> None:
    """A block of tokens, and causal ones behind it: the inverse of all eigenvectors gave 10²⁴ or an error."""
    hidden = torch.ones(300, 300, dtype=torch.bool).triu(1)
    hidden[:40, :40] = False
    logits = 6 * torch.randn(300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = logits.masked_fill(hidden, -torch.inf).softmax(-1).requires_grad_()
    behind = maps.diagonal()[40:]
    assert behind.max() > direct.second_of_spectrum(maps[:40, :40].detach()), "so λ₂ is an entry of the diagonal"
    (gradient,) = torch.autograd.grad(direct.second_of_spectrum(maps), maps)
    (expected,) = torch.autograd.grad(behind.max(), maps)
    assert torch.allclose(gradient.masked_fill(hidden, 0), expected, atol=1e-9)
    few = attention(6, 2).double()
    (gradient,) = torch.autograd.grad(direct.second_of_spectrum(few.requires_grad_()).sum(), few)
    for transform in (torch.func.grad, torch.func.jacrev):
        found = transform(lambda P: direct.second_of_spectrum(P).sum())(few.detach())
        assert torch.allclose(found, gradient)
    with pytest.raises(AttentionError, match="differentiated once"):
        torch.autograd.grad(direct.second_of_spectrum(maps), maps, create_graph=True)
