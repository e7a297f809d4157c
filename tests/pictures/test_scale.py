"""The scale of colours that maps share, and the numbers that have a colour."""

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.pictures.scale import Scale, finite

ONE, SIGNED = np.array([[0.0, 3.0]]), np.array([[-5.0, 1.0]])


@pytest.mark.parametrize(
    ("maps", "signed", "least", "greatest"),
    [
        ([ONE], None, 0, 3),
        ([ONE, SIGNED], None, -5, 5),
        ([ONE], True, -3, 3),
        ([0 * ONE], None, 0, 1),
        ([np.zeros((0, 2)), ONE], None, 0, 3),
    ],
)
def test_the_ends_of_a_scale(maps: list[np.ndarray], signed: bool | None, least: float, greatest: float) -> None:
    scale = Scale.of(maps, signed)
    assert (scale.least, scale.greatest) == (least, greatest)
    assert (scale.norm.vmin, scale.norm.vmax) == (least, greatest)


def test_negative_values_need_a_sign() -> None:
    with pytest.raises(ac.AttentionError, match="signed=False, but the scores go down to -5"):
        Scale.of([SIGNED], signed=False)


def test_numbers_of_any_holder() -> None:
    for values in (torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True), np.array([1, 2]), [True, 2]):
        found = finite(values, "scores")
        assert found.dtype == np.float64
        assert found.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan], r"scores holds 1 values of 2 that are not finite \(NaN\)"),
        (torch.tensor([np.inf, 0.0]), r"not finite \(infinite\)"),
        (["a"], "scores is a list without an array of real numbers"),
        (torch.ones(1, dtype=torch.complex64), "without an array of real numbers"),
        ([[1.0], [1.0, 2.0]], "without an array of real numbers"),
    ],
)
def test_what_has_no_colour(values: object, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        finite(values, "scores")


def test_a_scale_of_most_values_says_where_it_begins_and_ends() -> None:
    several = [np.full(300, 1.0), np.array([9.0])]
    scale = Scale.robust(several)
    assert (scale.least, scale.greatest, scale.note) == (0, 1, ", up to the 99.5% quantile")
    assert scale.extend(several[1]) == "max"
    assert scale.extend(several[0]) == "neither"
    far = [np.linspace(8, 10, 201)]
    scale = Scale.robust(far)
    assert (scale.least, scale.greatest) == (pytest.approx(8.01), 10)
    assert scale.note == ", from the 0.5% quantile"
    assert scale.extend(far[0]) == "min"
    assert Scale.robust([*far, np.array([40.0])]).note == ", from the 0.5% quantile to the 99.5% quantile"


@pytest.mark.parametrize("maps", [[ONE], [SIGNED], [0 * ONE], [np.full(9, 0.25)], [np.linspace(0.96, 1, 99)], [np.zeros(0)]])
def test_other_scales_go_from_zero_to_the_greatest_value(maps: list[np.ndarray]) -> None:
    assert Scale.robust(maps) == Scale.of(maps)


def test_a_signed_scale_has_arrows_at_both_ends() -> None:
    values = np.array([*np.linspace(-1, 1, 600), 9, -9])
    scale = Scale.robust([values])
    assert scale.least == -scale.greatest
    assert scale.greatest < 1.1
    assert scale.extend(values) == "both"
