"""One pass for stationary vectors and second eigenvalues: right, certified, and honest about what it did."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac

from ..chains import attention, exact_second, random_logits


def residual(pi: Tensor, P: Tensor, damping: float) -> Tensor:
    """‖πP' − π‖₁ in float64, over every state."""
    pi = pi.double()
    return (damping * (pi[..., None, :] @ P.double())[..., 0, :] + (1 - damping) / P.shape[-1] - pi).abs().sum(-1)


def test_maps_of_every_temper() -> None:
    P = attention(150, 12, 6.0)
    found = ac.mixing(P)
    assert float(residual(found.stationary, P, 0.99).max()) < 1e-6
    assert torch.allclose(found.residual.double(), residual(found.stationary, P, 0.99), atol=2e-7)
    assert torch.allclose(found.second_eigenvalue.double(), exact_second(P), atol=1e-4)
    assert found.converged.all()
    assert torch.allclose(found.stationary, ac.stationary(P.double()).float(), atol=1e-5)


def test_padding_changes_nothing() -> None:
    P = attention(100, 3)
    states = torch.arange(100) < torch.tensor([[100], [80], [60]])
    found = ac.mixing(ac.restrict(P, states))
    for row, n in enumerate((100, 80, 60)):
        inside = P[row, :n, :n] / P[row, :n, :n].sum(-1, keepdim=True)
        alone = ac.mixing(inside)
        assert torch.allclose(found.stationary[row, :n], alone.stationary, atol=1e-6)
        assert not found.stationary[row, n:].any()
        assert float(found.second_eigenvalue[row]) == pytest.approx(float(alone.second_eigenvalue), abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 49])
def test_few_tokens(n: int) -> None:
    P = attention(n, 2)
    found = ac.mixing(P)
    assert torch.allclose(found.stationary.sum(-1), torch.ones(2))
    expected = exact_second(P) if n > 1 else torch.zeros(2).double()
    assert torch.allclose(found.second_eigenvalue.double(), expected, atol=1e-5)


def test_all_mass_on_one_token() -> None:
    P = torch.zeros(100, 100)
    P[:, 7] = 1
    found = ac.mixing(P)
    assert float(found.stationary[7]) == pytest.approx(0.99 + 0.01 / 100, abs=1e-6)
    assert float(found.second_eigenvalue) == pytest.approx(0, abs=1e-4)


def test_chains_that_forget_at_once_and_never() -> None:
    P = torch.stack([torch.full((60, 60), 1 / 60), torch.eye(60), torch.eye(60).roll(1, 1)])
    found = ac.mixing(P)
    assert torch.allclose(found.stationary, torch.full((3, 60), 1 / 60))
    assert found.second_eigenvalue.tolist() == pytest.approx([0, 1, 1], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_maps_are_computed_float32_or_wider(dtype: torch.dtype) -> None:
    found = ac.mixing(attention(80).to(dtype))
    assert found.stationary.dtype == torch.float32
    assert float(found.residual.max()) < 1e-6


def test_personalization_and_damping() -> None:
    P = attention(120, 3)
    v = torch.rand(3, 120, generator=torch.Generator().manual_seed(0))
    v = v / v.sum(-1, keepdim=True)
    for damping in (0.0, 0.5, 0.99, 0.999):
        found = ac.mixing(P, damping, v)
        assert torch.allclose(found.stationary, ac.stationary(P.double(), damping, v.double()).float(), atol=1e-5)
        assert torch.allclose(found.second_eigenvalue.double(), exact_second(P), atol=1e-4)


def test_one_pass_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `second_eigenvalue` of a chain its stationary vector is there."""
    chain = ac.chain.as_chain(attention(100))
    ac.second_eigenvalue(chain)

    def again(*_: object, **__: object) -> None:
        raise AssertionError("a second pass")

    monkeypatch.setattr("attnchain_interp.chain.functionals.solve", again)
    assert torch.allclose(ac.stationary(chain).sum(-1), torch.ones(4))
    with pytest.raises(AssertionError, match="a second pass"):
        ac.stationary(chain, 0.5)


@given(random_logits(least=3), st.floats(0, 0.999))
def test_the_residual_bounds_the_error(raw: Tensor, damping: float) -> None:
    """Also beyond the sizes that dense solvers take: each token split into twenty copies mixes as one."""
    P = raw.softmax(-1)
    many = (P.repeat_interleave(20, 0).repeat_interleave(20, 1) / 20).float()
    found = ac.mixing(many, damping)
    own, exact = found.stationary.unflatten(0, (len(P), 20)).sum(1).double(), ac.stationary(P, damping)
    assert float((own - exact).abs().sum()) <= (float(found.residual) + 1e-6) / (1 - damping)
    assert float(found.second_eigenvalue) == pytest.approx(float(exact_second(P)), abs=1e-4)


def test_a_chain_that_ends_is_refused() -> None:
    chain = ac.absorb(attention(5, 1)[0], torch.arange(5) == 0)
    for function in (ac.mixing, ac.stationary, ac.second_eigenvalue):
        with pytest.raises(ac.AttentionError, match="the chain is absorbing"):
            function(chain)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    for P in (attention(150, 12, 6.0), attention(150, 3, causal=True), attention(20)):
        found, expected = ac.mixing(P.cuda()), ac.mixing(P)
        assert found.stationary.is_cuda
        assert torch.allclose(found.stationary.cpu(), expected.stationary, atol=1e-5)
        assert torch.allclose(found.second_eigenvalue.cpu(), expected.second_eigenvalue, atol=1e-4)
