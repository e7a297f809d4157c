"""Memberships beside pyGPCCA, and beside every corner of the feasible set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.numerics.gpcca import CrispnessProgram, _regular

from ..chains import blocks, ordered


def crispness(chi: Tensor, eta: Tensor) -> float:
    return float(((eta @ chi**2) / (eta @ chi)).mean())


@pytest.fixture
def gpcca(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """pyGPCCA, and its changes to the warnings of later processes taken back."""
    monkeypatch.setenv("PYTHONWARNINGS", "")
    from pygpcca import GPCCA

    return GPCCA


@pytest.mark.parametrize(("k", "tolerance"), [(2, 1e-9), (3, 1e-4), (4, 1e-2), (5, 2e-2)])
def test_against_pygpcca(k: int, tolerance: float, gpcca: Callable[..., Any]) -> None:
    """Theirs stops within a tolerance of Nelder and Mead, so only the subspace and two states agree to every digit."""
    for seed in range(3):
        P = blocks(10 * k, k, leak=0.03, seed=seed)
        eta = ac.stationary(P)
        theirs = gpcca(P.numpy(), eta=eta.numpy(), z="LR").optimize(k)
        expected, X = torch.from_numpy(theirs.memberships), torch.from_numpy(theirs.schur_vectors)
        chi = ac.metastable_states(P, k)
        assert torch.allclose(X @ torch.linalg.lstsq(X, chi).solution, chi, atol=1e-9), "the same subspace"
        assert torch.allclose(chi, ordered(expected, eta), atol=tolerance)
        assert crispness(chi, eta) >= float(theirs.optimal_crispness) - 1e-12


def greatest_crispness(P: Tensor, k: int) -> float:
    """The maximum over every corner of the feasible set, each found from the entries of χ that are zero there."""
    n, eta = len(P), ac.stationary(P)
    values, vectors = torch.linalg.eig(P)
    chosen = vectors[:, values.real.argsort(descending=True, stable=True)[1:k]]
    paired = torch.stack([chosen[:, 0].real, chosen[:, 0].imag], 1)  # k = 3: a complex pair, or two real vectors
    X = torch.cat([torch.ones(n, 1).double(), paired if bool(chosen.imag.any()) else chosen.real], 1)
    entries, sums = torch.block_diag(*[X] * k), torch.eye(k, dtype=torch.float64).repeat(1, k)
    zero = torch.combinations(torch.arange(n * k), k * k - k)
    systems = torch.cat([sums.expand(len(zero), k, k * k), entries[zero]], 1)
    corners, singular = torch.linalg.solve_ex(systems, torch.eye(k * k, dtype=torch.float64)[0].expand(len(zero), -1))
    chi = (corners @ entries.mT).unflatten(-1, (k, n))
    off = (chi.sum(1) - 1).abs().amax(1)
    chi = chi[(singular == 0) & (off < 1e-9) & (chi.amin((1, 2)) > -1e-9) & ((chi @ eta).amin(1) > 1e-9)]
    return float(((chi**2 @ eta) / (chi @ eta)).mean(1).max())


@pytest.mark.parametrize("seed", [4, 22, 24])
def test_the_crispest_of_all_corners(seed: int) -> None:
    """Random chains; on these the climb from the plain inner simplex ends at a lower corner."""
    generator = torch.Generator().manual_seed(seed)
    for P in (blocks(7, 3, seed=seed), (2 * torch.randn(7, 7, generator=generator, dtype=torch.float64)).softmax(-1)):
        chi = ac.metastable_states(P, 3)
        assert crispness(chi, ac.stationary(P)) == pytest.approx(greatest_crispness(P, 3), abs=1e-9)


def test_crispness_where_states_are_not_sharp(gpcca: Callable[..., Any]) -> None:
    """No gap, many local maxima: no less crisp than theirs, and every state is some token's."""
    for seed, k in ((1, 3), (2, 4), (4, 5), (6, 6)):
        P = blocks(40, 3, leak=0.4, seed=seed)
        eta = ac.stationary(P)
        try:
            chi = ac.metastable_states(P, k)
        except ac.AttentionError:
            k += 1
            chi = ac.metastable_states(P, k)
        theirs = gpcca(P.numpy(), eta=eta.numpy(), z="LR").optimize(k)
        assert crispness(chi, eta) >= float(theirs.optimal_crispness) - 1e-12
        assert bool((chi.amax(0) > 0).all())


def test_a_program_with_some_inequalities_has_the_optimum_of_all() -> None:
    generator = np.random.default_rng(0)
    X = np.concatenate([np.ones((200, 1)), generator.standard_normal((200, 3))], 1)
    tangent = generator.standard_normal((4, 4))
    program = CrispnessProgram(X, np.arange(200)[:, None] < np.full(4, 4))
    A = program.best(tangent, np.zeros_like(X))
    every = CrispnessProgram(X, np.ones(X.shape, bool)).best(tangent, np.zeros_like(X))
    assert A is not None and every is not None  # noqa: PT018
    assert program.binding.sum() < X.size / 4, "most are left out"
    assert (X @ A).min() > -1e-9
    assert (tangent * A).sum() == pytest.approx((tangent * every).sum(), abs=1e-9)


def test_no_state_repeats_another() -> None:
    """Of the first 76 chains of this kind that were tried, seven had two states that were one, scaled."""
    P = (3 * torch.randn(60, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).softmax(-1)
    lengths = torch.linalg.svdvals(ac.metastable_states(P, 6))
    assert float(lengths[-1] / lengths[0]) > 1e-5


def test_a_regular_transformation_has_independent_states() -> None:
    assert _regular(np.eye(3))
    assert not _regular(np.array([[1.0, 2], [2, 4 + 1e-9]]))
    assert not _regular(np.full((2, 2), np.nan))
