from typing import Any

import numpy as np
import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.checks import (
    as_number,
    check_one_of,
    check_position,
    check_probability,
    check_tensor,
    check_type,
    check_whole_number,
    wide_scores,
)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
def test_whole_numbers(value: Any) -> None:
    check_whole_number("steps", 1, "the number of steps")
    check_whole_number("steps", 0, "the number of steps", least=0)
    with pytest.raises(AttentionError, match="it is the number of steps, a whole number from 1 on"):
        check_whole_number("steps", value, "the number of steps")


def test_positions_count_from_either_end() -> None:
    assert [check_position("head", value, 3) for value in (0, 2, -1, -3)] == [0, 2, 2, 0]
    for value in (0.5, "0", 3, -4, True):
        with pytest.raises(AttentionError, match=f"head {value!r} does not exist; there are 3, numbered 0 to 2"):
            check_position("head", value, 3)


def test_one_of() -> None:
    check_one_of("kind", "a", ("a", "b"))
    with pytest.raises(AttentionError, match="kind='c' is unknown.\nUse 'a' or 'b'."):
        check_one_of("kind", "c", ("a", "b"))
    with pytest.raises(AttentionError, match="Use 'a'."):
        check_one_of("kind", None, ["a"])


@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan")])
def test_probabilities(value: float) -> None:
    for fine in (0, 0.5, 1):
        check_probability("damping", fine, "the probability of following the chain", 0.99)
    with pytest.raises(AttentionError, match=f"damping is {value}; it is the probability"):
        check_probability("damping", value, "the probability of following the chain", 0.99)


def test_types() -> None:
    check_type("store", {}, dict, "Pass {}.")
    with pytest.raises(AttentionError, match=r"store is of type list; it must be of type dict.\nPass \{\}."):
        check_type("store", [], dict, "Pass {}.")
    with pytest.raises(AttentionError, match="store is the class dict"):
        check_type("store", dict, dict, "Pass {}.")


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (np.ones(2), r"Pass torch.from_numpy\(mask\)"),
        ([1, 2], r"Pass torch.tensor\(mask\)"),
        (None, r"Pass a tensor \(token,\)"),
        (torch.eye(2).to_sparse(), r"sparse tensor(?s:.*)\.to_dense\(\)"),
    ],
)
def test_tensors(value: Any, fix: str) -> None:
    check_tensor("mask", torch.ones(2), "(token,)")
    with pytest.raises(AttentionError, match=fix):
        check_tensor("mask", value, "(token,)")


@pytest.mark.parametrize("value", [None, "0.5", [0.5], np.eye(2), torch.ones(2), object(), 1j])
def test_what_is_no_number_compares_with_nothing(value: Any) -> None:
    assert not as_number(value) >= 0
    with pytest.raises(AttentionError, match=r"(?s)damping is .*; it is a share, from 0 to 1"):
        check_probability("damping", value, "a share", 0.9)
    with pytest.raises(AttentionError, match=r"(?s)order=.* is unknown"):
        check_one_of("order", value, ("head", "lambda2"))


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    assert as_number(value) == 0.5
    check_probability("damping", value, "a share", 0.9)


def test_scores_are_widened() -> None:
    for dtype, wide in ((torch.float16, torch.float32), (torch.int64, torch.float32), (torch.float64, torch.float64)):
        assert wide_scores("scores", torch.ones(2, dtype=dtype), "(token,)", (2,)).dtype == wide
    with pytest.raises(AttentionError, match=r"scores has shape \(2,\) beside 3 labels"):
        wide_scores("scores", torch.ones(2), "(token,)", (3,))
    with pytest.raises(AttentionError, match="scores holds NaN or infinity"):
        wide_scores("scores", torch.tensor([torch.inf]), "(token,)", (1,))
