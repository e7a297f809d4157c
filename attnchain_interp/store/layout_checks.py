"""Checks of the grid and the labels of a `TokenLayout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from attnchain_interp.checks import check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.roles import Role

Grid = tuple[int, int]


def checked_pair(grid: Any) -> Grid:
    """Returns the (rows, columns) of a grid, from any value that a user passed."""
    if not isinstance(grid, Sequence) or isinstance(grid, str) or len(grid) != 2:
        raise AttentionError(
            f"grid is {grid!r}; it must be (rows, columns).", "Pass two whole numbers, such as grid=(14, 14)."
        )
    for name, number in zip(("rows", "columns"), grid, strict=True):
        check_whole_number(f"{name} of grid", number, f"the number of {name} of patches")
    return int(grid[0]), int(grid[1])


def checked_grid(grid: Any, patches: Tensor) -> Grid:
    """Returns the (rows, columns) of the `patches` (batch, token) bool of an image, from any value that a user passed."""
    rows, columns = checked_pair(grid)
    counts = patches.sum(1).tolist()
    if set(counts) != {rows * columns}:
        raise AttentionError(
            f"grid {(rows, columns)} has {rows * columns} places but there are {counts} patches.",
            "Pass the grid of the patch embedding, as (rows, columns).",
        )
    if bool((patches != patches[:1]).any()):
        raise AttentionError("the patches of a grid are not at the same positions in every example.", "Pass grid=None.")
    return rows, columns


def check_labels(labels: Any, batch: int, tokens: int) -> None:
    """Refuses everything but one list for each example of a batch, with one string for each token."""
    if not _are_lists(labels) or [len(row) for row in labels] != [tokens] * batch:
        flat = isinstance(labels, list) and batch == 1 and len(labels) == tokens
        fix = "Put the labels into a list: labels=[labels]." if flat else "Pass one string for each token."
        raise AttentionError(f"labels must hold {batch} lists of {tokens} strings.", fix)
    if odd := [label for row in labels for label in row if not isinstance(label, str)]:
        raise AttentionError(f"labels hold {odd[0]!r}, which is not a string.", "Pass str(label) for each token.")


def shape_of_labels(labels: Any) -> tuple[int, int]:
    """Returns the numbers of examples, and of tokens of the first one. `check_labels` checks the others."""
    if not _are_lists(labels) or not labels or not labels[0]:
        raise AttentionError("labels must hold a list of strings for each example.", "Pass one string for each token.")
    return len(labels), len(labels[0])


def _are_lists(labels: Any) -> bool:
    return isinstance(labels, Sequence) and all(isinstance(row, Sequence) and not isinstance(row, str) for row in labels)


def checked_roles(name: str, roles: Any) -> list[Role]:
    """Returns the roles of the tokens before or after the patches, from any value that a user passed."""
    if not isinstance(roles, str):
        try:
            return [Role.named(role) if isinstance(role, str) else Role(role) for role in roles]
        except (TypeError, ValueError):
            pass
    known = ", ".join(role.name.lower() for role in Role)
    raise AttentionError(
        f"{name} is {roles!r}; it must be a list of roles: {known}.", f'Pass {name}=["class"] for a class token.'
    )
