"""Which functions leave probabilities as probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.softmaxes.kept_probabilities import still_rows

MAPS = torch.full((2, 3, 4), 0.25)


@pytest.mark.parametrize(
    ("function", "result", "kept"),
    [
        (torch.mul, MAPS * 2, True),
        (torch.mul, MAPS[None] * torch.ones(5, 1, 1, 1), False),
        (F.linear, torch.ones(2, 3, 8), False),
        (Tensor.__getitem__, MAPS[..., :2], True),
        (torch.topk, MAPS[..., :2], True),
        (torch.cat, torch.ones(2, 3, 5), True),
        (torch.cat, torch.ones(2, 3, 12), False),
        (Tensor.scatter, torch.ones(2, 3, 4), True),
        (F.pad, torch.ones(2, 3, 5), True),
        (Tensor.repeat, torch.ones(2, 6, 4), True),
    ],
)
def test_rows(function: object, result: Tensor, kept: bool) -> None:
    assert still_rows(result, MAPS, function, keys=4) == kept
