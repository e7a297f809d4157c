import pytest
import torch

from attnchain_evals.perturbation.curve import PerturbationCurve, counts_of
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


def test_steps_that_an_example_repeats_are_known() -> None:
    fractions = counts_of(4, torch.tensor([2, 4]), True, "nearest") / torch.tensor([[2], [4]])
    steps = PerturbationCurve(fractions, torch.zeros(2, 5)).distinct
    assert steps.tolist() == [[True, False, True, True, False], [True] * 5]
    assert PerturbationCurve(torch.tensor([0.0, 1.0]), torch.zeros(2, 2)).distinct.all()


def test_the_picture_is_of_the_mean_curve() -> None:
    curve = PerturbationCurve(torch.tensor([0.0, 1.0]), torch.tensor([[0.5, 0.0], [1.0, 0.0]]))
    picture = curve._repr_html_()
    assert picture is not None
    assert 'points="40.0,10.0 300.0,270.0"' in picture
    assert ">0.75</text>" in picture
    assert "mean of 2, AUC 0.375" in picture
    assert PerturbationCurve(curve.fractions.expand(2, -1), curve.scores)._repr_html_() is None
