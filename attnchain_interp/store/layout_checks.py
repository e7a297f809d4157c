"""Checks of the grid and the labels of a `TokenLayout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from attnchain_interp.checks import check_whole_number
from attnchain_interp.errors import AttentionError

Grid = tuple[int, int]


def checked_grid(grid: Any, patches: Tensor) -> Grid:
    """Returns the (rows, columns) of the `patches` (batch, token) bool of an image, from any value that a user passed."""
    if not isinstance(grid, Sequence) or isinstance(grid, str) or len(grid) != 2:
        raise AttentionError(
            f"grid is {grid!r}; it must be (rows, columns).", "Pass two whole numbers, such as grid=(14, 14)."
        )
    rows, columns = grid
    for name, number in (("rows", rows), ("columns", columns)):
        check_whole_number(f"{name} of grid", number, f"the number of {name} of patches")
    counts = patches.sum(1).tolist()
    if set(counts) != {rows * columns}:
        raise AttentionError(
            f"grid {(rows, columns)} has {rows * columns} places but there are {counts} patches.",
            "Pass the grid of the patch embedding, as (rows, columns).",
        )
    if bool((patches != patches[:1]).any()):
        raise AttentionError("the patches of a grid are not at the same positions in every example.", "Pass grid=None.")
    return int(rows), int(columns)


def check_labels(labels: Any, batch: int, tokens: int) -> None:
    """Refuses everything but one list for each example of a batch, with one string for each token."""
    lists = isinstance(labels, Sequence) and all(isinstance(row, Sequence) and not isinstance(row, str) for row in labels)
    if not lists or [len(row) for row in labels] != [tokens] * batch:
        raise AttentionError(f"labels must hold {batch} lists of {tokens} strings.", "Pass one string for each token.")
    if odd := [label for row in labels for label in row if not isinstance(label, str)]:
        raise AttentionError(f"labels hold {odd[0]!r}, which is not a string.", "Pass str(label) for each token.")
