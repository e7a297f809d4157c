from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.store.layout_checks import check_labels, checked_grid, checked_roles

PATCHES = torch.tensor([[False, True, True]])


def test_a_grid_of_the_patches() -> None:
    assert checked_grid([1, 2], PATCHES) == (1, 2)


@pytest.mark.parametrize(
    "grid", [2, "12", (2,), (1, 2, 1), ("1", 2), (1.0, 2), (True, 2), (0, 2), (-1, -2), (10**30, 1), (2, 2)]
)
def test_other_grids_are_refused(grid: Any) -> None:
    with pytest.raises(ac.AttentionError, match="grid"):
        checked_grid(grid, PATCHES)


def test_patches_stand_at_the_same_places() -> None:
    with pytest.raises(ac.AttentionError, match="same positions"):
        checked_grid((1, 1), torch.tensor([[True, False], [False, True]]))


def test_labels_without_a_batch_are_put_into_a_list() -> None:
    with pytest.raises(ac.AttentionError, match=r"Put the labels into a list: labels=\[labels\]"):
        check_labels(["a", "b"], 1, 2)


@pytest.mark.parametrize("labels", [5, "ab", ["ab"], [["a"]], [["a", "b"], ["c", "d"]], [["a", 2]], [["a", None]], {0: "ab"}])
def test_other_labels_than_a_string_for_each_token_are_refused(labels: Any) -> None:
    check_labels([["a", "b"]], 1, 2)
    with pytest.raises(ac.AttentionError, match="labels"):
        check_labels(labels, 1, 2)


def test_roles_are_taken_by_name_too() -> None:
    assert checked_roles("prefix", ["class", ac.Role.REGISTER, 2]) == [ac.Role.CLASS, ac.Role.REGISTER, ac.Role.PATCH]


@pytest.mark.parametrize("roles", ["class", 1, None, ["cls"], [9], [[0]]])
def test_other_roles_are_refused(roles: Any) -> None:
    with pytest.raises(ac.AttentionError, match=r'(?s)must be a list of roles: class, register.*Pass prefix=\["class"\]'):
        checked_roles("prefix", roles)
