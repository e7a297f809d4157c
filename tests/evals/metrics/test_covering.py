from __future__ import annotations

import numpy as np
import pytest
import torch

from attnchain_evals import covering
from attnchain_interp import AttentionError


def written_out(segments: np.ndarray, regions: np.ndarray) -> float:
    total = 0.0
    for region in np.unique(regions):
        inside = regions == region
        ious = [(inside & (segments == s)).sum() / (inside | (segments == s)).sum() for s in np.unique(segments)]
        total += inside.sum() * max(ious)
    return total / regions.size


def test_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    segments, people = rng.integers(0, 4, (9, 7)) * 5, rng.integers(1, 6, (3, 9, 7))
    found = covering(torch.tensor(segments), torch.tensor(people))
    assert found.tolist() == pytest.approx([written_out(segments, regions) for regions in people])
    assert covering(torch.tensor(segments), torch.tensor(segments)[None] + 3).tolist() == [1.0], "numbers mean nothing"


def test_by_hand() -> None:
    """The whole image as one segment covers two halves by a half each."""
    halves = (torch.arange(4) < 2).long().expand(1, 2, 4)
    assert covering(torch.zeros(2, 4, dtype=torch.long), halves).tolist() == [0.5]


def test_shapes_are_checked() -> None:
    with pytest.raises(AttentionError, match=r"segments \(2, 4\) and segmentations \(1, 4, 2\) do not fit"):
        covering(torch.zeros(2, 4), torch.zeros(1, 4, 2))
