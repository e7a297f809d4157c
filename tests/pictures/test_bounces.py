"""A walk over an image as a strip of maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.store.starts import Start

from .walks import GRID, power, shown, small_store


@pytest.mark.parametrize(("start", "row"), [("center", 5), ("class", 0), (-1, 6)])
def test_the_strip_is_powers_of_the_matrix(start: Start, row: int) -> None:
    store = small_store()
    axes = pictures.show_bounces(store, torch.rand(3, 8, 12), start=start, steps=(1, 3, 2)).get_axes()
    assert [axis.get_title() for axis in axes] == ["input", "n = 1", "n = 3", "n = 2", "n = ∞"]
    patches = store.maps()[0].double()[..., 1:]
    matrix = (patches / patches.sum(-1, keepdim=True)).mean((0, 1))
    for axis, n in zip(axes[1:4], (1, 3, 2), strict=True):
        assert np.allclose(shown(axis), (matrix[row] @ power(matrix[1:], n - 1)).view(GRID), atol=1e-6)
    assert np.allclose(shown(axes[4]), power(0.99 * matrix[1:] + 0.01 / 6, 5000)[0].view(GRID), atol=1e-6)
    frames = axes[0].patches
    assert [frame.get_xy() for frame in frames] == ([] if start == "class" else [{5: (3.5, 3.5), 6: (7.5, 3.5)}[row]])  # type: ignore[attr-defined]


def test_what_is_refused() -> None:
    store = small_store()
    with pytest.raises(ac.AttentionError, match="steps is empty"):
        pictures.show_bounces(store, steps=())
    with pytest.raises(
        ac.AttentionError, match=r'heads="each" gives a walk for every head; one walk is drawn.\nName the head: heads=\[0\]'
    ):
        pictures.show_bounces(store, heads="each")
