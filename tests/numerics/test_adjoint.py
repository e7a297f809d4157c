"""The gradient of a stationary vector."""

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.numerics import solver
from attnchain_interp.operators.factors import Factors


@pytest.mark.parametrize("damping", [0.5, 0.99, 1])
def test_against_finite_differences(five: Tensor, damping: float) -> None:
    raw = five.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: ac.stationary(raw.softmax(-1), damping), raw)


def test_of_the_personalization(five: Tensor) -> None:
    raw = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda raw: ac.stationary(five, 0.8, raw.softmax(-1)), raw)


def test_of_a_restricted_batch(five: Tensor) -> None:
    states = torch.tensor([[True, True, False, True, True], [False, True, True, True, False]])
    raw = torch.stack([five, five.flip(0)]).log().requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: ac.stationary(ac.restrict(raw.softmax(-1), states), 0.9), raw)


@pytest.mark.parametrize("causal", [False, True])
def test_of_factors(monkeypatch: pytest.MonkeyPatch, causal: bool) -> None:
    monkeypatch.setattr(solver, "_MULTIPLIED_OUT", 0)
    query, key = torch.randn(2, 1, 2, 60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    query, key = query.requires_grad_(), key.requires_grad_()
    weight = torch.linspace(0, 1, 60, dtype=torch.float64)
    factors = Factors(query, key, causal=causal)
    own = torch.autograd.grad((ac.stationary(factors, 0.9) * weight).sum(), (query, key))
    expected = torch.autograd.grad((ac.stationary(factors.maps(), 0.9) * weight).sum(), (query, key))
    for mine, theirs in zip(own, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9)
        assert float(theirs.abs().max()) > 1e-4


def test_a_token_rank_can_be_optimised() -> None:
    """Logits are moved until a token that nobody looked at has half of the mass."""
    logits = torch.zeros(6, 6)
    logits[:, 2] = -4
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        (-ac.stationary(logits.softmax(-1))[2].log()).backward()
        optimiser.step()
    assert float(ac.stationary(logits.detach().softmax(-1))[2]) > 0.5


def test_it_is_taken_once(five: Tensor) -> None:
    raw = five.log().requires_grad_()
    with pytest.raises(ac.AttentionError, match="differentiated once"):
        torch.autograd.grad(ac.stationary(raw.softmax(-1))[0], raw, create_graph=True)


def test_the_second_eigenvalue_of_factors_has_none() -> None:
    query = torch.randn(1, 1, 5, 4, requires_grad=True)
    with pytest.raises(ac.AttentionError, match=r"(?s)factored chain has no gradient here.*factors\.maps"):
        ac.second_eigenvalue(Factors(query, query))
    maps = Factors(query, query).maps()
    assert torch.autograd.grad(ac.second_eigenvalue(maps).sum(), query)[0].abs().sum() > 0


def test_it_can_be_differentiated(five: Tensor) -> None:
    raw = five.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: ac.stationary(raw.softmax(-1), 0.9), raw)
