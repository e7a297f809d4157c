from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_evals.metrics import (
    NAOPC,
)
from attnchain_evals.metrics.naopc import best_order

from .planted import WEIGHTS, curve_by_hand, logit_without, probability, trial


def test_bounds_of_naopc_by_enumeration() -> None:
    """Six features whose cost is not a sum: 720 orders. A beam of 20 holds all sets of a size."""
    table = torch.rand(64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def cost(removed: Tensor) -> Tensor:
        return table[(removed.long() * 2 ** torch.arange(6)).sum(1)]

    every = []
    for order in permutations(range(6)):
        removed = torch.zeros(6, 6, dtype=torch.bool)
        for step in range(6):
            removed[step:, order[step]] = True
        every.append(float(cost(removed).mean()))
    assert best_order(cost, 6, beam=20) == pytest.approx(max(every))
    assert -best_order(lambda removed: -cost(removed), 6, beam=20) == pytest.approx(min(every))
    assert best_order(cost, 6, beam=1) <= max(every)


def test_naopc_of_the_best_and_the_worst_order(grid: Tensor) -> None:
    metric = NAOPC(regions=(4, 4))
    value, aopc, lower, upper = metric.measure(trial(), grid).T
    assert torch.allclose(value, (aopc - lower) / (upper - lower))
    scores = [curve_by_hand(example, list(range(1, 17))) for example in grid]
    clean = probability(logit_without(np.zeros(16, bool)))
    assert aopc.tolist() == pytest.approx([(clean - row).mean() for row in scores], abs=1e-6)
    assert metric.measure(trial(), WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert metric.measure(trial(), -WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([0, 0], abs=1e-5)
