"""One pass for stationary vectors and second eigenvalues: right, certified, and honest about what it did.

Bounces, stationary distributions and second eigenvalues beside closed forms, the authors' example and other libraries.
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from deeptime.markov.tools.analysis import eigenvalues as deeptime_eigenvalues
from deeptime.markov.tools.analysis import stationary_distribution as deeptime_stationary
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac

from ..chains import attention, exact_second, random_logits, vit_like


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
    assert ac.mixing(P[::4]).converged.all()
    assert torch.allclose(found.stationary, ac.stationary(P.double()).float(), atol=1e-5)


def test_converged_keeps_to_the_tolerance_and_bounds_the_rest() -> None:
    n = 60
    P = (
        torch.diag(torch.full((n,), 0.2))
        + torch.diag(torch.full((n - 1,), 0.05), 1)
        + torch.diag(torch.full((n - 1,), 0.75), -1)
    )
    P[0, 0], P[-1, -1] = 0.95, 0.25
    true = 0.2 + 2 * (0.75 * 0.05) ** 0.5 * math.cos(math.pi / n)
    found = ac.mixing(torch.stack([P, attention(n, 1)[0]]))
    assert found.converged.tolist() == [False, True]
    assert true + 0.1 < float(found.bound[0]) < 1
    assert float(found.bound[1]) == pytest.approx(float(found.second_eigenvalue[1]) + 1e-4)
    assert ac.mixing(found.chain, tolerance=0.9).converged.all()
    assert not ac.mixing(found.chain, tolerance=1e-12).converged.any(), "float32 does not hold |λ₂| so exactly"


@pytest.mark.parametrize("tolerance", [0, 1e-14, -1.0, 2.0, math.nan])
def test_a_tolerance_that_float64_cannot_reach_is_refused(tolerance: float) -> None:
    with pytest.raises(ac.AttentionError, match="float64 reaches 1e-12.*\n?.*Pass a tolerance from 1e-12 to 1"):
        ac.mixing(torch.eye(2), tolerance=tolerance)


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
    with pytest.raises(ac.AttentionError, match="the chain is absorbing"):
        ac.second_eigenvalue(ac.absorb(attention(5, 1)[0].requires_grad_(), torch.arange(5) == 0))


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    for P in (attention(150, 12, 6.0), attention(150, 3, causal=True), attention(20)):
        found, expected = ac.mixing(P.cuda()), ac.mixing(P)
        assert found.stationary.is_cuda
        assert torch.allclose(found.stationary.cpu(), expected.stationary, atol=1e-5)
        assert torch.allclose(found.second_eigenvalue.cpu(), expected.second_eigenvalue, atol=1e-4)


def test_the_authors_bounces(five: Tensor) -> None:
    last = torch.eye(5, dtype=torch.float64)[4]
    assert torch.allclose(ac.bounce(five, 4, steps=1), five[4])
    printed = torch.tensor([0.24, 0.04, 0.03, 0.48, 0.22], dtype=torch.float64)
    recomputed = torch.tensor([0.2430, 0.0386, 0.0259, 0.4757, 0.2168], dtype=torch.float64)
    assert torch.allclose(ac.bounce(five, last, steps=2), printed, atol=0.01)
    assert torch.allclose(ac.bounce(five, last, steps=2), recomputed, atol=1e-4)


def test_the_authors_column_sum(five: Tensor) -> None:
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    once = torch.tensor([0.4440, 0.0480, 0.0360, 0.2020, 0.2700], dtype=torch.float64)
    twice = torch.tensor([0.2278, 0.0424, 0.0275, 0.4040, 0.2983], dtype=torch.float64)
    assert torch.allclose(ac.bounce(five, uniform, steps=1), once, atol=1e-4)
    assert torch.allclose(ac.bounce(five, uniform, steps=1), five.sum(0) / 5)
    assert torch.allclose(ac.bounce(five, uniform, steps=2), twice, atol=1e-4)


def test_bounce_is_a_matrix_power(five: Tensor) -> None:
    path = ac.bounce(five, 2, steps=4, path=True)
    assert path.shape == (5, 5)
    for n in range(5):
        assert torch.allclose(path[n], torch.linalg.matrix_power(five, n)[2])


def test_bounce_broadcasts_over_batches(five: Tensor) -> None:
    P = torch.stack([five, five.flip(0)])
    assert torch.allclose(ac.bounce(P, 1, steps=3)[1], ac.bounce(P[1], 1, steps=3))


def test_half_precision_is_computed_float32_or_wider() -> None:
    P = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1).to(torch.bfloat16)
    assert ac.bounce(P, 0).dtype == torch.float32
    assert float(ac.bounce(P, 0, steps=50).sum()) == pytest.approx(1, abs=1e-5)


def test_bad_starts_are_refused(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="start token 5 does not exist; there are 5"):
        ac.bounce(five, 5)
    with pytest.raises(ac.AttentionError, match="start is not a distribution: it sums to 5"):
        ac.bounce(five, torch.ones(5))
    with pytest.raises(ac.AttentionError, match="not a distribution"):
        ac.bounce(five, torch.tensor([1.5, -0.5, 0, 0, 0]))
    with pytest.raises(ac.AttentionError, match="not a distribution"):
        ac.bounce(five, torch.tensor([torch.nan, 1, 0, 0, 0]))
    with pytest.raises(ac.AttentionError, match=r"start has shape \(4,\)"):
        ac.bounce(five, torch.full((4,), 0.25))
    with pytest.raises(ac.AttentionError, match="start is 'last'; a chain has no names"):
        ac.bounce(five, "last")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="steps is -1; it is the number of steps"):
        ac.bounce(five, 0, steps=-1)


def eigenvector(P: Tensor) -> Tensor:
    """The left eigenvector for eigenvalue 1, in float64."""
    values, vectors = torch.linalg.eig(P.double().mT)
    leading = vectors.gather(-1, (values - 1).abs().argmin(-1)[..., None, None].expand(*P.shape[:-1], 1))[..., 0].real
    return leading / leading.sum(-1, keepdim=True)


def test_the_authors_steady_state(five: Tensor) -> None:
    printed = torch.tensor([0.27, 0.04, 0.03, 0.27, 0.38], dtype=torch.float64)
    undamped = torch.tensor([0.2779, 0.0425, 0.0289, 0.2717, 0.3789], dtype=torch.float64)
    damped = torch.tensor([0.2782, 0.0442, 0.0307, 0.2711, 0.3758], dtype=torch.float64)
    assert torch.allclose(ac.stationary(five, damping=1), printed, atol=0.01)
    assert torch.allclose(ac.stationary(five, damping=1), undamped, atol=1e-4)
    assert torch.allclose(ac.stationary(five, damping=0.99), damped, atol=1e-4)
    assert int(five.sum(0).argmax()) == 0, "the column sum ranks token 0 first"
    assert int(ac.stationary(five).argmax()) == 4, "TokenRank ranks token 4 first"


def test_the_authors_outgoing_rank(five: Tensor) -> None:
    """Their `tokenrank_src` damps first and reverses then."""
    expected = torch.tensor([0.2345, 0.2035, 0.1920, 0.1994, 0.1706], dtype=torch.float64)
    assert torch.allclose(ac.stationary(ac.reverse(ac.damp(five, 0.99)), damping=1), expected, atol=1e-4)


def test_two_states_in_closed_form() -> None:
    a, b = 0.2, 0.05
    P = torch.tensor([[1 - a, a], [b, 1 - b]], dtype=torch.float64)
    expected = torch.tensor([b, a], dtype=torch.float64) / (a + b)
    assert torch.allclose(ac.stationary(P, damping=1), expected)


def test_a_cycle_is_uniform_although_it_never_mixes() -> None:
    P = torch.eye(5).roll(1, 1)
    assert torch.allclose(ac.stationary(P, damping=1), torch.full((5,), 0.2))


def test_birth_and_death_in_closed_form() -> None:
    n, up, down = 8, 0.3, 0.2
    one = torch.ones(n - 1, dtype=torch.float64)
    P = torch.diag(up * one, 1) + torch.diag(down * one, -1)
    P = P + torch.diag(1 - P.sum(-1))
    expected = (up / down) ** torch.arange(n, dtype=torch.float64)
    assert torch.allclose(ac.stationary(P, damping=1), expected / expected.sum(), rtol=1e-10)


def test_nearly_reducible_chains_keep_every_digit() -> None:
    """Two blocks joined by probabilities of 1e-13: elimination without subtraction keeps their ratio."""
    e = 1e-13
    P = torch.tensor([[1 - 2 * e, 2 * e], [e, 1 - e]], dtype=torch.float64)
    assert torch.allclose(ac.stationary(P, damping=1), torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), rtol=1e-3, atol=0)


def test_an_absorbing_state_under_damping() -> None:
    """State 1 absorbs; damped, state 0 only gets jumps: π₀ = (1 − α)/2 + α π₀ / 2."""
    P = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    first = 0.1 / 2 / (1 - 0.9 / 2)
    assert torch.allclose(ac.stationary(P, 0.9), torch.tensor([first, 1 - first], dtype=torch.float64))


def test_against_float64_eigenvectors() -> None:
    P = vit_like()
    for damping in (0.5, 0.99, 1):
        expected = eigenvector(damping * P.double() + (1 - damping) / P.shape[-1])
        pi, residual = ac.stationary(P, damping, return_residual=True)
        assert float((pi - expected).abs().sum(-1).max()) < 1e-5
        assert residual.shape == (6,)
        assert float(residual.max()) < 1e-6


def test_against_networkx_pagerank(five: Tensor) -> None:
    graph = nx.from_numpy_array(five.numpy(), create_using=nx.DiGraph)
    v = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0], dtype=torch.float64)
    for damping, jump in ((0.85, None), (0.99, v)):
        named = None if jump is None else dict(enumerate(jump.tolist()))
        expected = nx.pagerank(graph, damping, personalization=named, tol=1e-12, max_iter=10_000)
        assert ac.stationary(five, damping, jump).tolist() == pytest.approx([expected[i] for i in range(5)], abs=1e-9)


def test_against_deeptime() -> None:
    for P in vit_like().double():
        P = P / P.sum(-1, keepdim=True)
        assert torch.allclose(ac.stationary(P, damping=1), torch.from_numpy(deeptime_stationary(P.numpy())), atol=1e-9)


@given(random_logits(least=1), st.floats(0, 1), st.randoms())
def test_it_is_a_distribution_and_follows_relabelling(raw: Tensor, damping: float, random: object) -> None:
    P = raw.softmax(-1)
    order = torch.randperm(len(P), generator=torch.Generator().manual_seed(0))
    pi = ac.stationary(P, damping)
    assert bool((pi >= 0).all())
    assert float(pi.sum()) == pytest.approx(1)
    assert torch.allclose(ac.stationary(P[order][:, order], damping), pi[order], atol=1e-8)


@pytest.mark.parametrize("damping", [0.9, 1])
def test_tokens_outside_the_chain_get_nothing_and_change_nothing(five: Tensor, damping: float) -> None:
    keep = torch.tensor([False, True, True, False, True])
    pi = ac.stationary(ac.restrict(five, keep), damping)
    inside = five[keep][:, keep]
    assert not pi[~keep].any()
    assert torch.allclose(pi[keep], ac.stationary(inside / inside.sum(-1, keepdim=True), damping))


def test_each_example_of_a_batch_has_its_own_states() -> None:
    """Right- and left-padded rows in one batch give what each gives alone; padding may hold anything."""
    P = vit_like(n=4, batch=2)
    states = torch.tensor([[True, True, True, False], [False, False, True, True]])
    for damping in (0.9, 1):
        pi = ac.stationary(ac.restrict(P, states), damping)
        for row in range(2):
            keep = states[row]
            alone = P[row][keep][:, keep]
            expected = ac.stationary(alone / alone.sum(-1, keepdim=True), damping)
            assert torch.allclose(pi[row][keep], expected, atol=1e-6)
            assert not pi[row][~keep].any()


def test_a_reducible_chain_names_its_closed_classes() -> None:
    P = torch.block_diag(torch.full((2, 2), 0.5), torch.eye(1), torch.eye(1))
    P[3] = torch.tensor([0.25, 0.25, 0.25, 0.25])
    with pytest.raises(ac.AttentionError, match=r"(?s)2 closed classes \(\{0, 1\}, \{2\}\) and 1 transient.*damping=0\.99"):
        ac.stationary(P, damping=1)
    assert float(ac.stationary(P).sum()) == pytest.approx(1)


def test_a_causal_map_is_no_silent_one_hot() -> None:
    P = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf).softmax(-1)
    with pytest.raises(ac.AttentionError, match=r"1 closed class of chain \[1\] \(\{0\}\) and 3 transient"):
        ac.stationary(torch.stack([torch.full((4, 4), 0.25), P]), damping=1)


def test_personalization_must_be_a_distribution(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="personalization is not a distribution"):
        ac.stationary(five, personalization=torch.ones(5))
    with pytest.raises(ac.AttentionError, match="the chain has 5 tokens"):
        ac.stationary(five, personalization=torch.ones(4) / 4)


def test_the_authors_complex_pair(five: Tensor) -> None:
    """Eigenvalues 1, −.2775 ± .5613i: only the modulus, .6261, says how slowly the chain mixes."""
    assert float(ac.second_eigenvalue(five)) == pytest.approx(0.6261, abs=1e-4)
    assert float(ac.second_eigenvalue(ac.damp(five, 0.99))) == pytest.approx(0.6198, abs=1e-4)


def test_closed_forms() -> None:
    two = torch.tensor([[0.8, 0.2], [0.05, 0.95]])
    assert float(ac.second_eigenvalue(two)) == pytest.approx(0.75, abs=1e-6)
    assert float(ac.second_eigenvalue(torch.eye(5).roll(1, 1))) == pytest.approx(1, abs=1e-6)
    assert float(ac.second_eigenvalue(torch.ones(1, 1))) == 0
    assert float(ac.second_eigenvalue(torch.full((4, 4), 0.25))) == pytest.approx(0, abs=1e-6)


def test_against_float64_eigenvalues_and_deeptime() -> None:
    P = vit_like()
    expected = torch.linalg.eigvals(P.double()).abs().topk(2).values[:, 1]
    assert torch.allclose(ac.second_eigenvalue(P).double(), expected, atol=1e-5)
    double = P[0].double() / P[0].double().sum(-1, keepdim=True)
    theirs = abs(deeptime_eigenvalues(double.numpy()))[1]
    assert float(ac.second_eigenvalue(double)) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_triangular_maps_are_read_off_the_diagonal(flip: bool) -> None:
    raw = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P = raw.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    P = P.flip(-1, -2) if flip else P
    expected = P.diagonal(dim1=-2, dim2=-1).sort(-1).values[:, -2]
    assert torch.equal(ac.second_eigenvalue(P), expected)


@pytest.mark.parametrize("flip", [False, True])
def test_the_gradient_of_triangular_maps_is_that_of_their_diagonal(flip: bool) -> None:
    """Their eigenvectors are so near to each other that a gradient through all of them was NaN."""
    upper = torch.ones(400, 400, dtype=torch.bool).triu(1)
    logits = 3 * torch.randn(2, 400, 400, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    maps = logits.masked_fill(torch.stack([upper, torch.zeros_like(upper)]), -torch.inf).softmax(-1)
    found = ac.second_eigenvalue(maps.flip(-1, -2) if flip else maps)
    (gradient,) = torch.autograd.grad(found[0], logits, retain_graph=True)
    (expected,) = torch.autograd.grad(maps[0].diagonal().topk(2).values[1], logits, retain_graph=True)
    assert torch.allclose(gradient, expected, atol=1e-7)
    (gradient,) = torch.autograd.grad(found[1], logits)
    assert gradient[1].any(), "the other map is solved"


@given(random_logits(least=3))
def test_tokens_outside_the_chain_change_nothing(raw: Tensor) -> None:
    P = raw.softmax(-1)
    keep = torch.arange(len(P)) > 0
    inside = P[1:, 1:] / P[1:, 1:].sum(-1, keepdim=True)
    assert float(ac.second_eigenvalue(ac.restrict(P, keep))) == pytest.approx(float(ac.second_eigenvalue(inside)), abs=1e-6)


def test_answers_are_the_callers_own() -> None:
    chain = ac.restrict(torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1), torch.ones(4).bool())
    for question in (ac.second_eigenvalue, ac.stationary, lambda P: ac.mixing(P).stationary):
        first = question(chain)
        expected = first.clone()
        first /= 2
        assert torch.equal(question(chain), expected)


@pytest.mark.parametrize("token", [np.int64(1), np.array(1), torch.tensor(1)])
def test_a_start_is_any_whole_number(token: Any) -> None:
    P = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert torch.equal(ac.bounce(P, token), ac.bounce(P, 1))


def test_the_gradient_of_a_map_does_not_depend_on_the_rounding_of_others() -> None:
    P = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    found = []
    for other in (P, P * 1.0001):
        A = P.clone().requires_grad_()
        ac.stationary(torch.stack([A, other]), 0.9)[0, 0].backward()
        found.append(A.grad)
    assert torch.allclose(*found)


def test_no_chains_have_no_answers() -> None:
    none = torch.empty(0, 3, 3)
    assert ac.stationary(none).shape == (0, 3)
    assert ac.second_eigenvalue(none).shape == (0,)
    assert ac.mixing(none, damping=1).converged.shape == (0,)
    assert ac.balance(none).matrix.shape == (0, 3, 3)


def test_a_personalization_of_16_bits_is_divided_by_its_sum() -> None:
    P = torch.randn(60, 60, generator=torch.Generator().manual_seed(0)).softmax(-1)
    v = torch.randn(60, generator=torch.Generator().manual_seed(1)).mul(2).bfloat16().softmax(-1)
    assert float((v.float().sum() - 1).abs()) > 1e-5
    for damping in (0.99, 0.1):
        assert torch.allclose(ac.stationary(P, damping, v), ac.stationary(P, damping, v.float() / v.float().sum()), atol=1e-6)
