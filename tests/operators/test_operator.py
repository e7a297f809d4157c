"""The parts of an operator that every kind shares, and the operations on a held matrix, which are carried out at once."""

from __future__ import annotations

import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.operators import float32_or_wider, full_precision, wide_dtype
from attnchain_interp.operators.operator import Dense, empty_rows, uniform_over

P = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])
STATES = torch.tensor([True, False, True])
DOUBLE = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64)
A, B = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.5, 0.0, 2.0]).double()


def test_mass_sent_to_states_and_uniform_mass_over_them() -> None:
    assert torch.allclose(Dense(P).sent_to(STATES), torch.tensor([0.7, 0.0, 0.75]))
    assert uniform_over(STATES, torch.float64).tolist() == [0.5, 0, 0.5]
    assert torch.equal(Dense(P).rows(1, 3), P[1:])
    assert torch.equal(Dense(P).columns(0, 2), P[:, :2].T)


def test_only_padding_may_send_nothing_to_the_states() -> None:
    assert empty_rows(torch.tensor([0.7, torch.nan, 0.75]), STATES).tolist() == [False, True, False]
    with pytest.raises(AttentionError, match="token 2 .* cannot be renormalised"):
        empty_rows(torch.tensor([0.7, 0.0, 0.0]), STATES)
    with pytest.raises(AttentionError, match="leaves no state"):
        empty_rows(torch.zeros(3), torch.zeros(3, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_tensors_become_float32(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.5, 0.25], dtype=dtype)
    assert float32_or_wider(tensor).dtype == wide_dtype(dtype) == torch.float32
    assert float32_or_wider(tensor).tolist() == [0.5, 0.25]


def test_float64_stays() -> None:
    tensor = torch.tensor([0.1], dtype=torch.float64)
    assert float32_or_wider(tensor) is tensor


def test_operations_against_the_formulas() -> None:
    assert torch.equal(Dense(DOUBLE).scaled(A, B).matrix, A.diag() @ DOUBLE @ B.diag())
    assert torch.equal(Dense(DOUBLE).plus(A, B).matrix, DOUBLE + torch.outer(A, B))
    assert torch.equal(Dense(DOUBLE).transposed().matrix, DOUBLE.T)
    heads = torch.stack([DOUBLE, DOUBLE.flip(0)])[None]
    mean = (DOUBLE + 3 * DOUBLE.flip(0)) / 4
    assert torch.allclose(Dense(heads).head_mean(torch.tensor([[0.25, 0.75]]).double()).matrix, mean)


def test_rows_that_are_no_states_and_send_nothing_become_uniform() -> None:
    states = torch.tensor([True, True, False])
    held = torch.cat([DOUBLE[:2], torch.full((1, 3), torch.nan).double()])
    expected = torch.tensor([[0.4, 0.6, 0], [0.1, 0.9, 0], [0.5, 0.5, 0]]).double()
    assert torch.allclose(Dense(held).conditioned(states).scaled(columns=states).matrix, expected)


def test_triangular_looks_among_the_given_tokens_only() -> None:
    lower = DOUBLE.tril()[None].repeat(2, 1, 1)
    lower[1, 0, 2] = 0.1
    every, some = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, True, False]]).expand(2, 3)
    assert Dense(lower).triangular(every, upper=False).tolist() == [True, False]
    assert Dense(lower).triangular(some, upper=False).tolist() == [True, True]
    assert Dense(lower.mT).triangular(every, upper=True).tolist() == [True, False]


def product_dtype() -> torch.dtype:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_autocast_is_off_inside_and_on_afterwards() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert product_dtype() == torch.bfloat16
        with full_precision():
            assert product_dtype() == torch.float32
            with torch.autocast("cpu", torch.float16):  # the model of a reducer, say
                assert product_dtype() == torch.float16
            assert product_dtype() == torch.float32
        assert product_dtype() == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_it_decorates_and_is_left_when_a_function_raises() -> None:
    @full_precision()
    def failing() -> None:
        assert product_dtype() == torch.float32
        raise ValueError

    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^$"):
                failing()
        assert product_dtype() == torch.bfloat16


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    one = torch.ones(2, 2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16), full_precision():
        assert (one @ one).dtype == torch.float32
