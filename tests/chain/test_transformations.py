"""Restriction, damping, reversal and balancing beside dense replicas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.chain import leading_eigenvalues, reversible
from attnchain_interp.operators import Dense

from ..chains import attention, blocks, random_logits


@given(random_logits(), st.data())
def test_restriction_equals_dropping_logits(raw: Tensor, data: st.DataObject) -> None:
    n = len(raw)
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)))
    chain = ac.restrict(raw.softmax(-1), keep)
    assert torch.allclose(chain.matrix[keep][:, keep], raw[keep][:, keep].softmax(-1))
    assert not chain.matrix[:, ~keep].any()
    assert torch.allclose(chain.matrix.sum(-1), torch.ones(n, dtype=torch.float64))


def test_a_dropped_token_may_still_start(five: Tensor) -> None:
    chain = ac.restrict(five, torch.tensor([False, True, True, True, True]))
    assert torch.allclose(ac.bounce(chain, 0, steps=1)[1:], five[0, 1:] / five[0, 1:].sum())
    assert float(ac.bounce(chain, 0, steps=1)[0]) == 0


@given(random_logits())
def test_damping_scales_every_eigenvalue_but_the_first(raw: Tensor) -> None:
    P = raw.softmax(-1)
    own = torch.linalg.eigvals(P).abs().sort(descending=True).values
    damped = torch.linalg.eigvals(ac.damp(P, 0.8).matrix).abs().sort(descending=True).values
    assert torch.allclose(damped[0], torch.tensor(1.0, dtype=torch.float64))
    assert torch.allclose(damped[1:], 0.8 * own[1:], atol=1e-6)


def test_personalized_damping_stays_stochastic(five: Tensor) -> None:
    v = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    with pytest.raises(ac.AttentionError, match="not a distribution: it sums to 6"):
        ac.damp(five, 0.9, v)
    damped = ac.damp(five, 0.9, v / 6).matrix
    assert torch.allclose(damped, 0.9 * five + 0.1 * v / 6)
    assert torch.allclose(damped.sum(-1), torch.ones(5, dtype=torch.float64))


def test_reversal_of_a_reversible_chain_is_its_own_inverse() -> None:
    weights = torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    P = (weights + weights.T) / (weights + weights.T).sum(-1, keepdim=True)
    received = P / P.sum(0)
    assert torch.allclose(ac.reverse(P).matrix, received.T)
    doubly = torch.full((3, 3), 0.25, dtype=torch.float64) + 0.25 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(ac.reverse(ac.reverse(doubly)).matrix, doubly)


def test_reversing_a_restriction_follows_who_attends(five: Tensor) -> None:
    keep = torch.tensor([False, True, True, True, True])
    kept = five[1:, 1:] / five[1:, 1:].sum(-1, keepdim=True)
    chain = ac.reverse(ac.restrict(five, keep))
    assert torch.allclose(chain.matrix[1:, 1:], (kept / kept.sum(0)).T)
    assert not chain.matrix[:, 0].any()


@pytest.mark.parametrize("damping", [-0.1, 1.01, float("nan")])
def test_damping_outside_the_unit_interval_is_refused(five: Tensor, damping: float) -> None:
    with pytest.raises(ac.AttentionError, match="from 0 to 1"):
        ac.damp(five, damping)
    with pytest.raises(ac.AttentionError, match="from 0 to 1"):
        ac.stationary(five, damping)


def test_a_row_without_mass_is_refused() -> None:
    P = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]])
    with pytest.raises(ac.AttentionError, match="token 1 .* sends all its attention to tokens outside"):
        ac.restrict(P, torch.tensor([False, True, True]))
    with pytest.raises(ac.AttentionError, match="leaves no state"):
        ac.restrict(P, torch.tensor([False, False, False]))
    with pytest.raises(ac.AttentionError, match="no state attends to token 1"):
        ac.reverse(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    maps = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    with pytest.raises(ac.AttentionError, match=r"no state attends to token 1 \(index \[0, 0, 1\]\).*\nLeave this token out"):
        ac.AttentionStore.from_maps([maps]).chain(heads="each", direction="outgoing")


def test_personalization_outside_the_states_is_refused(five: Tensor) -> None:
    chain = ac.restrict(five, torch.tensor([False, True, True, True, True]))
    with pytest.raises(ac.AttentionError, match="not states of the chain"):
        ac.damp(chain, 0.9, torch.full((5,), 0.2))


def balanced(P: Tensor) -> Tensor:
    """Columns divided by their sums, then rows by theirs."""
    columns = P / P.sum(-2, keepdim=True)
    return columns / columns.sum(-1, keepdim=True)


@given(random_logits(), st.data())
def test_a_balanced_restriction(raw: Tensor, data: st.DataObject) -> None:
    """States are balanced among themselves. Another token enters by its own row. Balancing and reversing commute."""
    n = len(raw)
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)))
    chain = ac.restrict(raw.softmax(-1), keep)
    found = ac.balance(chain)
    assert torch.allclose(found.matrix[keep][:, keep], balanced(chain.matrix[keep][:, keep]))
    assert torch.equal(found.matrix[~keep], chain.matrix[~keep])
    assert not found.matrix[:, ~keep].any()
    assert torch.equal(found.states, keep)
    both = ac.reverse(found).matrix[keep][:, keep]
    assert torch.allclose(ac.balance(ac.reverse(chain)).matrix[keep][:, keep], both)


def test_a_doubly_stochastic_chain_is_balanced() -> None:
    doubly = torch.full((3, 3), 0.25, dtype=torch.float64) + 0.25 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(ac.balance(doubly).matrix, doubly)


def test_a_column_of_a_causal_chain_is_divided_by_its_mean_over_the_tokens_that_see_it() -> None:
    causal = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.7, 0.2, 0.1]]).double()
    means = torch.tensor([2.6 / 3, 0.15, 0.1]).double()
    found = ac.balance(causal)
    assert torch.allclose(found.matrix, (causal / means) / (causal / means).sum(-1, keepdim=True))
    assert found.causal
    evenly = torch.ones(5, 5).double().tril()
    evenly = evenly / evenly.sum(-1, keepdim=True)  # each token attends to all that it sees
    later = ac.balance(ac.restrict(evenly, torch.arange(5) > 1)).matrix[2:, 2:]
    inner = evenly[2:, 2:] / evenly[2:, 2:].sum(-1, keepdim=True)
    means = inner.sum(0) / torch.tensor([3, 2, 1])
    assert torch.allclose(later, (inner / means) / (inner / means).sum(-1, keepdim=True))


def test_a_causal_chain_is_balanced_alike_beside_another(five: Tensor) -> None:
    causal = five.tril() / five.tril().sum(-1, keepdim=True)
    both = ac.balance(torch.stack([five, causal])).matrix
    assert torch.allclose(both, torch.stack([ac.balance(five).matrix, ac.balance(causal).matrix]))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_strength_is_the_power_of_the_means(five: Tensor, strength: float) -> None:
    expected = five / five.mean(0) ** strength
    assert torch.allclose(ac.balance(five, strength).matrix, expected / expected.sum(-1, keepdim=True))


def test_a_strength_out_of_range_is_refused(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="strength is 2"):
        ac.balance(five, 2)


def test_a_token_that_nobody_attends_to_stays_so() -> None:
    P = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.25, 0.0, 0.75]])
    assert torch.allclose(ac.balance(P).matrix[:, [0, 2]], balanced(P[:, [0, 2]]))
    assert not ac.balance(P).matrix[:, 1].any()


def test_walks_of_a_balanced_absorbing_chain_end_as_often(five: Tensor) -> None:
    chain = ac.absorb(five, torch.tensor([True, False, False, False, False]))
    found = ac.balance(chain)
    inner = five[1:, 1:]
    expected = balanced(inner) * inner.sum(-1, keepdim=True)
    assert found.absorbing
    assert torch.allclose(found.matrix[1:, 1:], expected)
    visits = torch.linalg.solve(torch.eye(4).double() - expected.T, torch.full((4,), 0.25).double())
    assert torch.allclose(ac.expected_visits(found)[1:], visits)


@pytest.mark.parametrize("causal", [False, True])
def test_factors_are_balanced_as_their_maps_are(causal: bool) -> None:
    query, key = torch.randn(2, 2, 3, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors = ac.Factors(query, key, causal=causal)
    keep = torch.arange(9) != 0
    lazy, dense = (ac.balance(ac.restrict(P, keep)) for P in (factors, factors.maps()))
    assert not isinstance(lazy.transitions, Dense)
    assert torch.allclose(lazy.matrix, dense.matrix, atol=1e-6)
    start = torch.eye(9, dtype=torch.float64)[0]  # not a state
    assert torch.allclose(ac.bounce(lazy, start), ac.bounce(dense, start), atol=1e-6)
    assert torch.allclose(ac.stationary(lazy), ac.stationary(dense), atol=1e-5)
    assert lazy.causal == dense.causal == causal
    assert torch.allclose(ac.second_eigenvalue(lazy), ac.second_eigenvalue(dense), atol=1e-4)


def test_the_gradient_of_a_reversible_chain(five: Tensor) -> None:
    def matrix(logits: Tensor) -> Tensor:
        return reversible(logits.softmax(-1)).matrix

    assert torch.autograd.gradcheck(matrix, five.double().log().requires_grad_())


def test_the_gradient_of_a_balanced_chain(five: Tensor) -> None:
    def rank(logits: Tensor) -> Tensor:
        return ac.stationary(ac.balance(ac.restrict(logits.softmax(-1), torch.arange(5) != 2)), 0.9)

    assert torch.autograd.gradcheck(rank, five.log().requires_grad_())


def test_detailed_balance_and_real_eigenvalues() -> None:
    P = blocks(20, 3)
    assert torch.linalg.eigvals(P).imag.abs().max() > 1e-3
    R = reversible(P)
    pi = ac.stationary(R, damping=1)
    flow = pi[:, None] * R.matrix
    assert torch.allclose(flow, flow.T, atol=1e-12)
    assert torch.allclose(R.matrix.sum(-1), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(pi, ac.stationary(P, damping=1), atol=1e-3), "damped π is near"
    assert leading_eigenvalues(R, 20).imag.abs().max() < 1e-9


def test_a_reversible_chain_stays_as_it_is() -> None:
    P = reversible(blocks(12, 2), damping=1)
    assert torch.allclose(reversible(P, damping=1).matrix, P.matrix, atol=1e-9)


def test_tokens_outside_and_factors() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, 9, 4, generator=generator)
    factors = ac.Factors(query, key)
    states = torch.arange(9) > 0
    dense = reversible(ac.restrict(factors.maps(), states))
    held = reversible(ac.restrict(factors, states))
    assert torch.allclose(held.matrix[..., 1:, :], dense.matrix[..., 1:, :], atol=1e-6)
    assert not dense.matrix[..., 0].any()
    assert torch.allclose(dense.matrix.sum(-1), torch.ones(1, 2, 9), atol=1e-5)
    assert reversible(attention(8)).states.shape == (4, 8)


@pytest.mark.parametrize("mask", [torch.ones(5), torch.ones(5, dtype=torch.long), torch.ones(2, dtype=torch.bool)])
def test_a_mask_of_another_type_or_length_is_refused(mask: Tensor) -> None:
    P = torch.rand(5, 5).softmax(-1)
    for change in (ac.restrict, ac.absorb):
        with pytest.raises(ac.AttentionError, match="must be bool and broadcast to"):
            change(P, mask)


def test_gradients_of_padding_that_attends_to_padding_are_those_of_factors() -> None:
    x = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keep = torch.tensor([[0, 0, 1, 1, 1]]).bool()
    same = keep[:, None, :, None] == keep[:, None, None, :]
    found = []
    for kind in ("maps", "factors"):
        q = x.clone().requires_grad_()
        factors = ac.Factors(q, x, mask=same)
        layer = ac.LayerAttention("0", factors.maps() if kind == "maps" else factors)
        ac.stationary(ac.AttentionStore([layer], ac.TokenLayout.text(keep)).chain(), 0.9)[0, 2].backward()
        found.append(q.grad)
    assert torch.allclose(found[0], found[1])
    assert float(found[0].abs().sum()) > 0
