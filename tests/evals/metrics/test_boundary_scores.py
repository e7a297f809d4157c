"""Boundary counts by hand, and the number of pairs beside a matching of least distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from attnchain_evals import boundary_counts, boundary_f
from attnchain_evals.metrics.boundary_scores import NEAR, boundary, matches
from attnchain_interp import AttentionError


def halves(column: int, width: int = 100) -> torch.Tensor:
    return (torch.arange(width) >= column).long().expand(width, width)


def test_boundaries_near_and_far() -> None:
    """The diagonal has 141 pixels, so a boundary matches within one pixel."""
    assert boundary_counts(halves(50), halves(51)[None]).tolist() == [100, 100, 100, 100]
    assert boundary_counts(halves(50), halves(52)[None]).tolist() == [0, 100, 0, 100]
    both = torch.stack([halves(50), halves(80)])
    assert boundary_counts(halves(50), both).tolist() == [100, 100, 100, 200], "matched by one person is matched"
    assert boundary_f([100, 100, 100, 200]) == pytest.approx(2 / 3)
    assert boundary_counts(torch.zeros(100, 100), both).tolist() == [0, 0, 0, 200]
    assert boundary_f([0, 0, 0, 200]) == 0


def test_one_to_one() -> None:
    """A thick boundary of people has two columns; of own pixels there is one."""
    thick = torch.zeros(100, 100).long()
    thick[:, 50], thick[:, 51:] = 1, 2
    assert boundary_counts(halves(50), thick[None]).tolist() == [100, 100, 100, 200]


def test_what_a_boundary_is() -> None:
    corner = np.zeros((3, 3), np.int64)
    corner[2, 2] = 1
    assert boundary(corner).astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_as_many_pairs_as_an_assignment_of_least_distance(seed: int) -> None:
    """The benchmark's assignment: distances, and a hundred times the reach for a pixel without a partner."""
    generator = np.random.default_rng(seed)
    own, drawn = generator.random((2, 300, 300)) < 0.004
    reach = NEAR * np.hypot(300, 300)
    apart = np.linalg.norm(np.argwhere(own)[:, None] - np.argwhere(drawn)[None], axis=-1)
    first, second = linear_sum_assignment(np.where(apart <= reach, apart, 100 * reach))
    pairs = int((apart[first, second] <= reach).sum())
    assert pairs > 30
    found = matches(own, drawn)
    assert found.sum() == pairs
    assert not (found & ~own).any()


def test_shapes() -> None:
    with pytest.raises(AttentionError, match="do not fit"):
        boundary_counts(torch.zeros(2, 2), torch.zeros(1, 3, 2))
