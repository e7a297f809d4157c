"""Invariant subspaces by block Krylov beside those of the whole Schur form."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.chain import metastable
from attnchain_interp.numerics import invariant_subspace
from attnchain_interp.numerics.invariant_subspace import SchurForm, schur_vectors

from ..chains import blocks, lumped


def vectors(P: Tensor, k: int | None) -> Any:
    return schur_vectors(lambda x: P.numpy() @ x, ac.stationary(P).numpy(), k)


def apart(X: Any, Y: Any) -> float:
    """The greatest distance of a column of Y from the span of X."""
    return float(np.abs(X @ np.linalg.lstsq(X, Y)[0] - Y).max())


@pytest.mark.parametrize("k", [2, 3, 4, 5, None])
def test_a_krylov_space_holds_what_the_whole_form_does(k: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of five blocks, left at different rates: reversible, so that no k parts a pair."""
    leaks = torch.tensor([0.01, 0.02, 0.04, 0.07, 0.11], dtype=torch.float64)
    P, _ = lumped(leaks[:, None].expand(5, 5) + torch.diag(1 - 5 * leaks), [60, 70, 80, 90, 100])
    products = []
    found = schur_vectors(lambda x: products.append(x.shape) or P.numpy() @ x, ac.stationary(P).numpy(), k)
    assert len(products) < 30, "no product with all 400 unit vectors"
    monkeypatch.setattr(invariant_subspace, "WHOLE", 400)
    whole = vectors(P, k)
    assert found.shape == whole.shape == (400, k or 5)
    assert apart(found, whole) < 1e-8
    eta = ac.stationary(P).numpy()
    assert np.allclose(found.T @ (eta[:, None] * found), np.eye(found.shape[1]), atol=1e-9)
    assert np.allclose(found[:, 0], 1)


def test_an_eigenvalue_of_any_multiplicity_is_found() -> None:
    """Five closed classes: the eigenvalue 1 five times. A Krylov space of one vector has it once."""
    P = torch.block_diag(*[blocks(70, 1, seed=seed) for seed in range(5)])
    one_hot = torch.eye(5, dtype=torch.float64).repeat_interleave(70, 0).numpy()
    assert apart(vectors(P, 5), one_hot) < 1e-8


def test_a_pair_is_seen_in_a_krylov_space() -> None:
    P, _ = lumped(torch.tensor([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), [120, 100, 80])
    with pytest.raises(ac.AttentionError, match=r"k=2 would split .* 0\.85 ± 0\.0866i\.\nUse k=1 or k=3"):
        vectors(P, 2)
    assert vectors(P, None).shape == (300, 3)


def test_where_a_krylov_space_does_not_converge_the_whole_form_answers() -> None:
    """Five blocks, and behind them the close eigenvalues of noise."""
    P = blocks(300, 5)
    real = torch.linalg.eigvals(P).real.sort(descending=True).values
    k = next(k for k in range(9, 20) if real[k - 1] - real[k] > 1e-6)
    products = []
    X = schur_vectors(lambda x: products.append(x.shape[1]) or P.numpy() @ x, ac.stationary(P).numpy(), k)
    assert max(products) == 299, "all of the complement"
    assert apart(X, P.numpy() @ X) < 1e-9, "the subspace is invariant"


def test_the_gap_is_sought_up_to_twenty_states() -> None:
    real = np.concatenate([np.linspace(0.9, 0.8, 22), [0.1, 0.05]])
    form = SchurForm.of(np.diag(real))
    assert form.largest_gap() <= 20
    assert SchurForm.of(np.diag([0.9, 0.85, 0.2, 0.1])).largest_gap() == 3
    assert SchurForm.of(np.array([[0.5]])).largest_gap() == 2


def test_factors_are_not_built_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    middle = 3 * torch.eye(3)[torch.arange(280) * 3 // 280]
    query, key = (torch.cat([middle, 0.3 * torch.randn(280, 5, generator=generator)], -1)[None, None] for _ in range(2))
    factors = ac.Factors(query.expand(2, 1, -1, -1), key.expand(2, 1, -1, -1))
    built = ac.metastable_states(factors, 3)
    states = torch.arange(280) >= 7
    dense = ac.metastable_states(ac.restrict(factors.maps(), states), 3)
    monkeypatch.setattr(metastable, "_BUILT", 0)
    monkeypatch.setattr(metastable, "_built", None)
    assert torch.allclose(ac.metastable_states(factors, 3), built, atol=1e-4)
    chi = ac.metastable_states(ac.restrict(factors, states), 3)
    assert not chi[..., :7, :].any()
    assert torch.allclose(chi, dense, atol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 4, 16, 23])
def test_equal_real_eigenvalues_are_no_complex_pair(k: int) -> None:
    """Rounding makes pairs of them: of a Jordan block, and of the many zeros of a chain of six kinds of tokens."""
    chain = np.diag([1.0, 0.5, 0.5, 0.5]) + np.diag([0.5, 0.5, 0.5], -1)
    kinds = np.random.default_rng(0).dirichlet(np.ones(6), 6)
    kinds = (kinds + kinds.T) / (kinds + kinds.T).sum(1, keepdims=True)
    alike = np.kron(kinds, np.full((4, 4), 0.25))
    P = torch.from_numpy(chain if k <= 4 else alike)
    chi = ac.metastable_states(P, k)
    assert torch.allclose(chi.sum(-1), torch.ones(len(P)).double())
    assert ac.metastable_states(torch.eye(3).double()[[1, 2, 0]], 3).shape == (3, 3)
    with pytest.raises(ac.AttentionError, match="would split the complex pair"):
        ac.metastable_states(torch.eye(3).double()[[1, 2, 0]], 2)


@pytest.mark.parametrize(("turn", "count"), [(3e-9, 3), (1e-6, 2)])
def test_a_pair_below_the_rounding_of_float32_is_two_real_eigenvalues(turn: float, count: int) -> None:
    matrix = np.diag([0.9, 1e-8, 1e-8])
    matrix[1, 2], matrix[2, 1] = turn, -turn
    form = SchurForm.of(matrix)
    assert len(form.blocks) == count
    assert form.vectors(1)[:, 0] == pytest.approx([1, 0, 0])
