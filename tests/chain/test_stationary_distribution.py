import networkx as nx
import pytest
import torch
from deeptime.markov.tools.analysis import stationary_distribution as deeptime_stationary
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac

from ..chains import random_logits, vit_like


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


def test_iteration_gives_the_same_where_the_factorisation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    P = vit_like()
    expected = ac.stationary(P)

    def broken(*_: object) -> Tensor:
        raise RuntimeError("Pivots given to lu_solve must all be greater or equal to 1.")

    monkeypatch.setattr(torch.linalg, "solve", broken)
    assert torch.allclose(ac.stationary(P), expected, atol=1e-6)


def test_it_can_be_differentiated(five: Tensor) -> None:
    raw = five.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: ac.stationary(raw.softmax(-1), 0.9), raw)


def test_a_reducible_chain_names_its_closed_classes() -> None:
    P = torch.block_diag(torch.full((2, 2), 0.5), torch.eye(1), torch.eye(1))
    P[3] = torch.tensor([0.25, 0.25, 0.25, 0.25])
    with pytest.raises(ac.AttentionError, match=r"2 closed classes \(\{0, 1\}, \{2\}\) and 1 transient.*damping=0\.99"):
        ac.stationary(P, damping=1)
    assert float(ac.stationary(P).sum()) == pytest.approx(1)


def test_a_causal_map_is_no_silent_one_hot() -> None:
    P = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf).softmax(-1)
    with pytest.raises(ac.AttentionError, match=r"1 closed classes of chain \[1\] \(\{0\}\) and 3 transient"):
        ac.stationary(torch.stack([torch.full((4, 4), 0.25), P]), damping=1)


def test_personalization_must_be_a_distribution(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="personalization is not a distribution"):
        ac.stationary(five, personalization=torch.ones(5))
    with pytest.raises(ac.AttentionError, match="the chain has 5 tokens"):
        ac.stationary(five, personalization=torch.ones(4) / 4)
