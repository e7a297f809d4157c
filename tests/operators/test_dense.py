"""Operations on a held matrix are carried out at once."""

import torch

from attnchain_interp.operators.dense import Dense

P = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64)
A, B = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.5, 0.0, 2.0]).double()


def test_operations_against_the_formulas() -> None:
    assert torch.equal(Dense(P).scaled(A, B).matrix, A.diag() @ P @ B.diag())
    assert torch.equal(Dense(P).plus(A, B).matrix, P + torch.outer(A, B))
    assert torch.equal(Dense(P).transposed().matrix, P.T)
    heads = torch.stack([P, P.flip(0)])[None]
    assert torch.allclose(Dense(heads).head_mean(torch.tensor([[0.25, 0.75]]).double()).matrix, (P + 3 * P.flip(0)) / 4)


def test_rows_that_are_no_states_and_send_nothing_become_uniform() -> None:
    states = torch.tensor([True, True, False])
    held = torch.cat([P[:2], torch.full((1, 3), torch.nan).double()])
    expected = torch.tensor([[0.4, 0.6, 0], [0.1, 0.9, 0], [0.5, 0.5, 0]]).double()
    assert torch.allclose(Dense(held).conditioned(states).scaled(columns=states).matrix, expected)


def test_triangular_looks_among_the_given_tokens_only() -> None:
    lower = P.tril()[None].repeat(2, 1, 1)
    lower[1, 0, 2] = 0.1
    every, some = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, True, False]]).expand(2, 3)
    assert Dense(lower).triangular(every, upper=False).tolist() == [True, False]
    assert Dense(lower).triangular(some, upper=False).tolist() == [True, True]
    assert Dense(lower.mT).triangular(every, upper=True).tolist() == [True, False]
