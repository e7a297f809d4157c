"""Each chain goes to the solver that is right for it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.numerics import solver
from attnchain_interp.operators import Factors

from ..chains import attention, exact_second


def blocks(sizes: list[int], leak: float, seed: int = 0) -> Tensor:
    """A nearly decomposable chain: within its block, or with probability `leak` anywhere. λ₂ is exactly 1 − leak."""
    generator = torch.Generator().manual_seed(seed)
    within = torch.block_diag(*(torch.randn(m, m, generator=generator).softmax(-1) for m in sizes)).double()
    n = sum(sizes)
    return (1 - leak) * within + leak / n


@pytest.mark.parametrize("leak", [0.3, 0.05, 1e-2, 1e-3, 1e-5])
def test_nearly_decomposable_with_known_gap(leak: float) -> None:
    P = torch.stack([blocks([40, 30, 50], leak), blocks([60, 60], leak)]).float()
    assert torch.allclose(ac.second_eigenvalue(P), torch.tensor(1 - leak), atol=1e-4)


def test_a_stationary_vector_that_is_off_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are nearly uniform, so that a step leaves little of an error. The other chain takes no step."""
    P = torch.randn(2, 100, 100, generator=torch.Generator().manual_seed(0)).mul(0.1).softmax(-1)
    right, iterate, noise = ac.mixing(P), solver.iterate, torch.linspace(-1e-4, 1e-4, 100)

    def off(*given: Any) -> Any:
        found = iterate(*given)
        found.vector[1] *= 1 + noise
        return found

    monkeypatch.setattr(solver, "iterate", off)
    monkeypatch.setattr(solver, "solve_damped", None)  # the way out of what a step does not mend
    found = ac.mixing(P)
    assert torch.equal(found.stationary[0], right.stationary[0])
    assert torch.allclose(found.stationary[1], right.stationary[1], rtol=1e-5)
    assert float(found.residual.max()) <= solver.RESIDUAL


def test_two_equal_blocks_are_told_apart() -> None:
    """A Krylov space begun at a symmetric vector never sees the eigenvector that has one sign on each block."""
    half = attention(60, 1)[0]
    P = 0.999 * torch.block_diag(half, half) + 0.001 / 120
    assert float(ac.second_eigenvalue(P)) == pytest.approx(0.999, abs=1e-4)
    v = torch.zeros(120)
    v[:60] = 1 / 60
    apart = ac.mixing(torch.block_diag(half, half), personalization=v)
    assert float(apart.second_eigenvalue) == pytest.approx(1, abs=1e-4), "jumps only ever reach one of them"
    uniform = torch.full((60, 60), 1 / 60)
    P = 0.95 * torch.block_diag(uniform, uniform) + 0.05 / 120
    assert float(ac.second_eigenvalue(P)) == pytest.approx(0.95, abs=1e-4), "its stationary vector is where the start begins"


def test_negative_and_complex_eigenvalues_far_from_one() -> None:
    """Of two kinds of slow chains an inverse near one sees only one."""
    n = 120
    there, back = (0.97 * attention(60, 1, seed=seed)[0] for seed in (0, 1))
    alternating = torch.zeros(n, n)
    alternating[:60, 60:], alternating[60:, :60] = there, back
    rotating = 0.96 * torch.eye(n).roll(1, 1)
    P = torch.stack([alternating + 0.03 / n, rotating + 0.04 / n, attention(n, 1)[0]])
    assert exact_second(P)[:2].tolist() == pytest.approx([0.97, 0.96], abs=1e-4)
    assert torch.allclose(ac.second_eigenvalue(P).double(), exact_second(P), atol=1e-4)


def test_sharp_maps_are_not_taken_for_what_an_inverse_sees() -> None:
    """Cycles of strong attention lie far from one, near the unit circle; of 400 such maps, 14 were wrong by up to 0.03."""
    for seed, n in ((221, 197), (346, 128), (135, 100), (363, 100), (310, 128)):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(n, n)) * rng.uniform(10, 50)
        P = torch.from_numpy(logits).softmax(-1).float()
        assert float(ac.second_eigenvalue(P)) == pytest.approx(
            float(exact_second(P / P.double().sum(-1, keepdim=True))), abs=1e-4
        )


def test_few_tokens_far_from_normal_are_solved_in_float64() -> None:
    P = torch.diag(torch.full((16,), 0.2)) + torch.diag(torch.full((15,), 0.05), 1) + torch.diag(torch.full((15,), 0.75), -1)
    P[0, 0], P[-1, -1] = 0.95, 0.25
    found = ac.mixing(P)
    assert float(found.second_eigenvalue) == pytest.approx(0.2 + 2 * (0.75 * 0.05) ** 0.5 * math.cos(math.pi / 16), abs=1e-6)
    assert found.converged.all()


def test_what_does_not_converge_goes_to_the_dense_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    P = attention(100, 4, 6.0)
    expected = ac.mixing(P)
    monkeypatch.setattr("attnchain_interp.numerics.iteration._SIZES", (8, 10))
    monkeypatch.setattr(solver, "_INVERTED", 0)
    found = ac.mixing(P)
    assert torch.allclose(found.second_eigenvalue, expected.second_eigenvalue, atol=1e-4)
    assert torch.allclose(found.stationary, expected.stationary, atol=1e-5)
    assert float(found.residual.max()) < 1e-6


def test_a_factored_chain_that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnchain_interp.numerics.iteration._SIZES", (8, 10))
    monkeypatch.setattr(solver, "_MULTIPLIED_OUT", 0)
    query, key = 3 * torch.randn(2, 1, 1, 100, 8, generator=torch.Generator().manual_seed(0))
    factors = Factors(query, key)
    expected = ac.second_eigenvalue(factors.maps())
    assert torch.allclose(ac.second_eigenvalue(factors), expected, atol=1e-4), "multiplied out, up to 4,096 tokens"
    monkeypatch.setattr(solver, "_DENSE_RESCUE", 50)
    with pytest.raises(ac.AttentionError, match=r"λ₂. of 1 of 1 chains did not converge, and maps of 100 tokens"):
        ac.second_eigenvalue(factors)
    monkeypatch.setattr(solver, "FACTORED_RESIDUAL", 1e-12)
    with pytest.raises(ac.AttentionError, match="no stationary distribution within"):
        ac.stationary(factors)


@pytest.mark.parametrize("flip", [False, True])
def test_causal_maps_are_exact_whatever_else_is_in_the_batch(flip: bool) -> None:
    causal = attention(90, 3, 6.0, causal=True)
    causal = causal.flip(-1, -2) if flip else causal
    P = torch.cat([attention(90, 2), causal])
    found = ac.mixing(P)
    diagonal = causal.diagonal(dim1=-2, dim2=-1).topk(2).values[:, 1]
    assert torch.equal(found.second_eigenvalue[2:], diagonal)
    assert torch.allclose(found.stationary, ac.mixing(P.double()).stationary.float(), atol=1e-6)
    assert found.converged.all()


def test_left_padding_leaves_a_causal_chain_triangular() -> None:
    P = attention(90, 2, 3.0, causal=True)
    states = torch.arange(90) >= torch.tensor([[0], [30]])
    second = ac.second_eigenvalue(ac.restrict(P, states))
    inside = P[1, 30:, 30:] / P[1, 30:, 30:].sum(-1, keepdim=True)
    assert float(second[1]) == pytest.approx(float(inside.diagonal().topk(2).values[1]))


def test_factored_chains_are_solved_like_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = 2 * torch.randn(2, 2, 3, 300, 8, generator=generator)
    for causal in (False, True):
        factors = Factors(query, key, causal=causal)
        states = torch.arange(300).expand(2, 3, -1) > torch.tensor([0, 40])[:, None, None]
        dense, lazy = (ac.restrict(P, states) for P in (factors.maps(), factors))
        expected = ac.mixing(dense)
        reverse = ac.stationary(ac.reverse(ac.damp(dense, 0.9)))
        with monkeypatch.context() as patch:
            patch.setattr(solver, "_MULTIPLIED_OUT", 0)
            found = ac.mixing(lazy)
            assert torch.allclose(ac.stationary(ac.reverse(ac.damp(lazy, 0.9))), reverse, atol=1e-5)
        assert torch.allclose(found.stationary, expected.stationary, atol=1e-5)
        assert torch.allclose(found.second_eigenvalue, expected.second_eigenvalue, atol=1e-4)
        assert float(found.residual.max()) < 1e-5


def test_factored_chains_without_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "_MULTIPLIED_OUT", 0)
    query, key = torch.randn(2, 1, 2, 200, 8, generator=torch.Generator().manual_seed(0))
    factors = Factors(query, key)
    assert torch.allclose(ac.stationary(factors, damping=1), ac.stationary(factors.maps(), damping=1), atol=1e-6)
    with pytest.raises(ac.AttentionError, match="it is causal, so at damping=1"):
        ac.stationary(Factors(query, key, causal=True), damping=1)
    apart = torch.block_diag(torch.ones(100, 100), torch.ones(100, 100)).bool()
    with pytest.raises(ac.AttentionError, match="reducible, or too nearly so"):
        ac.stationary(Factors(query, key, mask=apart), damping=1)


@pytest.mark.parametrize("n", [1, 2, 60])
def test_causal_maps_damped_heavily_or_not_at_all(n: int) -> None:
    """So damped, vector and |λ₂| are looked for apart."""
    P = attention(n, 3, causal=True)
    found, expected = ac.mixing(P, 0.3), ac.mixing(P)
    assert torch.equal(found.second_eigenvalue, expected.second_eigenvalue)
    assert torch.allclose(found.stationary, ac.stationary(P.double(), 0.3).float(), atol=1e-6)
    if n == 1:
        assert ac.stationary(P, damping=1).tolist() == [[1.0]] * 3


@pytest.mark.parametrize("n", [40, 200])
def test_reversed_causal_factors(n: int) -> None:
    for seed in range(6):
        q, k = torch.randn(2, 1, 4, n, 8, generator=torch.Generator().manual_seed(seed))
        factors = Factors(q, k, causal=True, scale=3.0)
        found = ac.stationary(ac.reverse(factors))
        assert torch.allclose(found, ac.stationary(ac.reverse(factors.maps())), atol=1e-5)
