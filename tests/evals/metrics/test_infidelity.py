from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_evals.metrics import (
    Infidelity,
)
from attnchain_evals.metrics.attribution_metric import random_subsets

from .planted import WEIGHTS, logit_without, probability, trial


def test_infidelity_by_its_formula(grid: Tensor) -> None:
    on, metric = trial(), Infidelity(samples=25)
    found = metric.measure(on, grid)[:, 0]
    sizes = torch.randint(1, 17, (25,), generator=torch.Generator().manual_seed(0)).tolist()
    subsets = random_subsets(sizes, 16, 2, first=0, seed=0)
    for row in range(2):
        chosen = subsets[row].numpy()
        sums = chosen @ grid[row].double().numpy().ravel()
        costs = probability(logit_without(np.zeros(16, bool))) - np.array(
            [probability(logit_without(removed)) for removed in chosen]
        )
        beta = (sums * costs).mean() / (sums**2).mean()
        assert found[row] == pytest.approx(((beta * sums - costs) ** 2).mean(), abs=1e-6)
    linear = Infidelity(samples=25, score="logit")
    assert linear.measure(trial(), WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([0, 0], abs=1e-6)
