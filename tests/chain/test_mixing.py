"""One pass for stationary vectors and second eigenvalues: right, certified, and honest about what it did."""

from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.operators.factors import Factors

from ..chains import random_logits

mixing = import_module("attnchain_interp.chain.mixing")  # the module: the room's name is the function's


def attention(n: int, batch: int = 4, size: float = 2.0, seed: int = 0, causal: bool = False) -> Tensor:
    """Maps from flat to peaky, (batch, n, n) float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.linspace(0.3, size, batch)[:, None, None] * torch.randn(batch, n, n, generator=generator)
    return (logits.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf) if causal else logits).softmax(-1)


def blocks(sizes: list[int], leak: float, seed: int = 0) -> Tensor:
    """A nearly decomposable chain: within its block, or with probability `leak` anywhere. λ₂ is exactly 1 − leak."""
    generator = torch.Generator().manual_seed(seed)
    within = torch.block_diag(*(torch.randn(m, m, generator=generator).softmax(-1) for m in sizes)).double()
    n = sum(sizes)
    return (1 - leak) * within + leak / n


def exact_second(P: Tensor) -> Tensor:
    return torch.linalg.eigvals(P.double()).abs().topk(2).values[..., 1]


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


@pytest.mark.parametrize("leak", [0.3, 0.05, 1e-2, 1e-3, 1e-5])
def test_nearly_decomposable_with_known_gap(leak: float) -> None:
    P = torch.stack([blocks([40, 30, 50], leak), blocks([60, 60], leak)]).float()
    assert torch.allclose(ac.second_eigenvalue(P), torch.tensor(1 - leak), atol=1e-4)


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


def test_what_does_not_converge_goes_to_the_dense_solver_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    P = attention(100, 4, 6.0)
    expected = ac.mixing(P)
    monkeypatch.setattr("attnchain_interp.numerics.iteration.SIZES", (8, 10))
    monkeypatch.setattr(mixing, "_INVERTED", 0)
    found = ac.mixing(P)
    assert not found.converged.all()
    assert torch.allclose(found.second_eigenvalue, expected.second_eigenvalue, atol=1e-4)
    assert torch.allclose(found.stationary, expected.stationary, atol=1e-5)
    assert float(found.residual.max()) < 1e-6


def test_a_factored_chain_that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnchain_interp.numerics.iteration.SIZES", (8, 10))
    monkeypatch.setattr(mixing, "_MULTIPLIED_OUT", 0)
    query, key = 3 * torch.randn(2, 1, 1, 100, 8, generator=torch.Generator().manual_seed(0))
    factors = Factors(query, key)
    assert not ac.mixing(factors).converged.any(), "multiplied out, up to 4,096 tokens"
    monkeypatch.setattr(mixing, "_DENSE_RESCUE", 50)
    with pytest.raises(ac.AttentionError, match=r"λ₂. of 1 of 1 chains did not converge, and maps of 100 tokens"):
        ac.second_eigenvalue(factors)
    monkeypatch.setattr(mixing, "FACTORED_RESIDUAL", 1e-12)
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
            patch.setattr(mixing, "_MULTIPLIED_OUT", 0)
            found = ac.mixing(lazy)
            assert torch.allclose(ac.stationary(ac.reverse(ac.damp(lazy, 0.9))), reverse, atol=1e-5)
        assert torch.allclose(found.stationary, expected.stationary, atol=1e-5)
        assert torch.allclose(found.second_eigenvalue, expected.second_eigenvalue, atol=1e-4)
        assert float(found.residual.max()) < 1e-5


def test_factored_chains_without_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "_MULTIPLIED_OUT", 0)
    query, key = torch.randn(2, 1, 2, 200, 8, generator=torch.Generator().manual_seed(0))
    factors = Factors(query, key)
    assert torch.allclose(ac.stationary(factors, damping=1), ac.stationary(factors.maps(), damping=1), atol=1e-6)
    with pytest.raises(ac.AttentionError, match="it is causal, so at damping=1"):
        ac.stationary(Factors(query, key, causal=True), damping=1)
    apart = torch.block_diag(torch.ones(100, 100), torch.ones(100, 100)).bool()
    with pytest.raises(ac.AttentionError, match="reducible, or too nearly so"):
        ac.stationary(Factors(query, key, mask=apart), damping=1)


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
