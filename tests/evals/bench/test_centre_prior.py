"""The control that knows nothing."""

from __future__ import annotations

import math

import torch

from attnchain_evals import CentrePrior


def test_a_gaussian_in_the_middle() -> None:
    cells = CentrePrior((4, 2)).attribute(torch.rand(3, 3, 8, 8), output="grid")
    assert cells.shape == (3, 4, 2)
    assert torch.equal(cells[0], cells[2])
    expected = math.exp(-(0.375**2 + 0.25**2) / (2 * 0.25**2))
    assert torch.allclose(cells[0, 0, 1], torch.tensor(expected))
    assert torch.equal(cells, cells.flip(1, 2))
    middle = CentrePrior((3, 3)).attribute(torch.rand(1, 3, 9, 9).double(), output="grid")[0]
    assert middle[1, 1] == 1
    assert middle.dtype == torch.float64
