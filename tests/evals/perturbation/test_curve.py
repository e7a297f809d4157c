from typing import Any

import numpy as np
import pytest
import torch

from attnchain_evals.perturbation.curve import PerturbationCurve, checked_fractions, counts_of
from attnchain_interp import AttentionError


def test_the_area_is_divided_by_the_range_of_the_fractions() -> None:
    curve = PerturbationCurve(torch.tensor([0.25, 0.5, 0.75]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    assert curve.auc.tolist() == [0.25, 1.0]
    assert repr(curve) == "PerturbationCurve(batch 2, 3 steps, mean AUC 0.625)"


def test_counts_are_rounded_and_come_once_with_ends() -> None:
    sizes = torch.tensor([10, 30])
    assert counts_of(2, sizes, True, "nearest").tolist() == [[0, 5, 10], [0, 15, 30]]
    assert counts_of([0.1, 0.11], sizes, False, "up").tolist() == [[1, 2], [3, 4]]
    assert counts_of([0.01, 0.5], torch.tensor([10]), True, "nearest").tolist() == [[0, 5, 10]]
    for fractions in (0, [], [1.5]):
        with pytest.raises(AttentionError, match="fractions="):
            counts_of(fractions, sizes, False, "nearest")


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor])
def test_fractions_may_come_in_any_sequence(kind: Any) -> None:
    assert checked_fractions(kind([0.25, 0.5])) == (0.25, 0.5)
    assert counts_of(kind([0.25, 0.5]), torch.tensor([8]), False, "nearest").tolist() == [[2, 4]]


def test_a_curve_of_one_step_has_no_area() -> None:
    curve = PerturbationCurve(torch.tensor([0.5]), torch.ones(2, 1))
    with pytest.raises(AttentionError, match="the curve has one step, and an area needs two.\nPass more"):
        _ = curve.auc
    assert repr(curve) == "PerturbationCurve(batch 2, 1 step)"
    assert curve._repr_html_() is None


def test_steps_that_an_example_repeats_are_known() -> None:
    fractions = counts_of(4, torch.tensor([2, 4]), True, "nearest") / torch.tensor([[2], [4]])
    steps = PerturbationCurve(fractions, torch.zeros(2, 5)).distinct
    assert steps.tolist() == [[True, False, True, True, False], [True] * 5]
    assert PerturbationCurve(torch.tensor([0.0, 1.0]), torch.zeros(2, 2)).distinct.all()


@pytest.mark.parametrize("fractions", [[0.1, 0.9], [0.3, 0.5, 0.7], [1 / 3, 2 / 3], [0.0, 1.0]])
def test_complements_are_found_whatever_their_last_bit(fractions: list[float]) -> None:
    lopsided = [*fractions[:-1], fractions[-1] - 1e-6]
    found = [PerturbationCurve(torch.tensor(each), torch.zeros(2, len(each))).symmetric for each in (fractions, lopsided)]
    assert [each.tolist() for each in found] == [[True, True], [False, False]]
    both = PerturbationCurve(torch.tensor([fractions, lopsided]), torch.zeros(2, len(fractions)))
    assert both.symmetric.tolist() == [True, False]


def test_rounding_can_make_equal_steps_asymmetric() -> None:
    """Half of 25 is rounded to 12, whose complement is 13."""
    sizes = torch.tensor([25, 40, 196])
    curve = PerturbationCurve(counts_of(20, sizes, True, "nearest") / sizes[:, None], torch.zeros(3, 21))
    assert curve.symmetric.tolist() == [False, True, True]


def test_the_picture_is_of_the_mean_curve() -> None:
    curve = PerturbationCurve(torch.tensor([0.0, 1.0]), torch.tensor([[0.5, 0.0], [1.0, 0.0]]))
    picture = curve._repr_html_()
    assert picture is not None
    assert 'points="40.0,10.0 300.0,270.0"' in picture
    assert ">0.75</text>" in picture
    assert "mean of 2, AUC 0.375" in picture
    assert PerturbationCurve(curve.fractions.expand(2, -1), curve.scores)._repr_html_() is None
