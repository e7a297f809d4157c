"""The factors of products."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from attnchain_adapters.softmaxes.product_factors import by_place, factors, is_learnt

A, B = torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)


def test_each_factor_has_the_axis_that_is_summed() -> None:
    assert list(factors(torch.matmul, (A, B), [A, B])) == [(A, -1, B), (B, -2, None)]
    assert list(factors(torch.baddbmm, (A, A, B), [A, A, B])) == [(A, -1, None), (B, -2, None)]
    assert list(factors(torch.einsum, ("bij,bjd->bid", A, B), [A, B])) == [(A, 2, None), (B, 1, None)]
    assert list(factors(torch.einsum, ("bij->bi", A), [A])) == []


def test_factors_that_were_given_by_name_have_their_places() -> None:
    bias = torch.zeros(4)
    assert by_place((), {"bias": bias, "weight": B, "input": A, "out": A}) == ((A, B, bias), {"out": A})
    assert by_place((bias,), {"mat2": B, "mat1": A, "alpha": 2}) == ((bias, A, B), {"alpha": 2})


def test_a_linear_function_has_factors_where_it_has_no_weights() -> None:
    (found,) = factors(F.linear, (A[0], B[0].mT), [A[0], B[0].mT])
    assert (found[0].shape, found[1], found[2] is not None and found[2].shape) == ((3, 4), -1, (4, 5))
    learnt = nn.Parameter(B[0].mT)
    assert is_learnt(learnt)
    assert not is_learnt(B)
    assert list(factors(F.linear, (A[0], learnt), [A[0], learnt])) == []
