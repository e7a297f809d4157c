"""A chain keeps to its states, and keeps its answers."""

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac


def test_a_chain_keeps_its_answers(five: Tensor) -> None:
    chain = ac.chain.as_chain(five)
    assert ac.mixing(chain) is ac.mixing(chain) is chain.answers[0.99]
    ac.mixing(chain, personalization=torch.eye(5).double()[0])
    ac.stationary(chain, 0.5)
    assert list(chain.answers) == [0.99], "for uniform jumps, and by `mixing` alone"


def test_steps_and_sizes(five: Tensor) -> None:
    chain = ac.Chain(five, torch.ones(5, dtype=torch.bool))
    assert torch.equal(chain.step(five[2]), five[2] @ five)
    assert len(chain) == 5
    assert repr(chain) == "Chain((5, 5), torch.float64, held as a matrix)"
    assert chain.uniform.tolist() == [0.2] * 5
    assert not chain.causal
    assert ac.chain.as_chain(five.tril() / five.tril().sum(-1, keepdim=True)).causal


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (torch.tensor([[0.5, 0.4], [0.5, 0.5]]), r"(?s)a row sums to 1 ± 0\.1.*\.eval\(\)"),
        (torch.tensor([[torch.nan, 0.5], [0.5, 0.5]]), "1 rows with NaN"),
        (torch.tensor([[1.5, -0.5], [0.5, 0.5]]), "negative entries .least -0.5"),
        (torch.full((2, 3), 1 / 3), r"shape \(2, 3\); a chain needs square maps"),
        (torch.eye(2, dtype=torch.long), "int64"),
    ],
)
def test_maps_that_are_no_chains_are_refused(P: Tensor, message: str) -> None:
    for function in (lambda: ac.bounce(P, 0), lambda: ac.stationary(P), lambda: ac.second_eigenvalue(P)):
        with pytest.raises(ac.AttentionError, match=message):
            function()


def test_a_chain_by_hand_must_keep_to_its_states(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="leads to a token that is not a state"):
        ac.Chain(five, torch.tensor([True, True, True, True, False]))
    with pytest.raises(ac.AttentionError, match=r"states is torch.float32 of shape \(5,\); it must be bool"):
        ac.Chain(five, torch.ones(5))
