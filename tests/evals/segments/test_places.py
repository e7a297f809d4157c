"""Points and boxes, and the patches in them."""

from typing import Any

import numpy as np
import pytest
import torch

from attnchain_evals.segments.places import as_place, patches_in
from attnchain_interp import AttentionError, AttentionStore, TokenLayout

STORE = AttentionStore.from_maps([torch.full((1, 1, 7, 7), 1 / 7)], TokenLayout.image(grid=(2, 3), class_token=True))


@pytest.mark.parametrize(
    ("place", "patches"),
    [
        ((0, 0), [1]),
        ((29.9, 19.9), [6]),
        ((10, 0), [2]),
        ((0, 0, 30, 20), [1, 2, 3, 4, 5, 6]),
        ((12, 3, 29, 9), [2, 3]),
        ((25, 15, 30, 20), [6]),
    ],
)
def test_patches(place: tuple[float, ...], patches: list[int]) -> None:
    start = patches_in(STORE, place, (30, 20))
    assert start.nonzero()[:, 0].tolist() == patches
    assert start.sum() == pytest.approx(1)


def test_patches_of_a_part() -> None:
    """Two rows and three columns lie on 10 × 24 of 20 × 30 pixels."""
    for place, patches in (((9, 6), [5]), ((29.9, 19.9), [6]), ((17, 12, 30, 20), [6]), ((15.9, 4.9), [2])):
        assert patches_in(STORE, place, (30, 20), (0.5, 0.8)).nonzero()[:, 0].tolist() == patches


@pytest.mark.parametrize(
    "place",
    [(30, 10), (10, 20), (-1, 0), (float("nan"), 0), (0, 0, 31, 20), (30, 0, 30, 20), (20, 0, 10, 5), (0, float("inf"))],
)
def test_what_is_outside_is_refused(place: tuple[float, ...]) -> None:
    with pytest.raises(AttentionError, match="is not within the photograph of 30 × 20 pixels"):
        patches_in(STORE, place, (30, 20))


@pytest.mark.parametrize(
    "value", [5, "12", (1, 2, 3), (), "ab", [None, 1], (float("nan"), 0), torch.zeros(2, 2), np.zeros((2, 2)), object()]
)
def test_what_is_no_point_is_refused(value: Any) -> None:
    with pytest.raises(AttentionError, match=r"(?s)point is .*; it is 2 numbers \(x, y\)"):
        as_place("point", value, 2)


@pytest.mark.parametrize("box", [(200, 30, 100, 80), (10, 80, 20, 30)])
def test_a_box_that_ends_before_it_begins_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(AttentionError, match=r"(?s)box is \(.*\), which ends before it begins.*left is at most right"):
        as_place("box", box, 4)


def test_arrays_and_tensors_are_places() -> None:
    assert as_place("point", np.array([3, 4]), 2) == as_place("point", torch.tensor([3, 4]), 2) == (3, 4)
    assert as_place("box", None, 4) is None
