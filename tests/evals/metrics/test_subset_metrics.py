from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_evals.metrics import (
    Infidelity,
    SensitivityN,
)
from attnchain_evals.metrics.attribution_metric import random_subsets

from .planted import WEIGHTS, logit_without, probability, trial


def test_sensitivity_n_is_one_for_the_truth_and_numpys_correlation_else(grid: Tensor) -> None:
    on, metric = trial(), SensitivityN(samples=30)
    assert metric.measure(on, WEIGHTS.expand(2, -1, -1)).flatten().tolist() == pytest.approx([1] * 14, abs=1e-5)
    assert metric.measure(on, -WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([-1] * 2, abs=1e-5)
    sizes = [size for size in (1, 1, 2, 3, 6, 13) for _ in range(30)]
    subsets = random_subsets(sizes, 16, 2, first=0, seed=0)
    assert torch.equal(subsets.sum(2), torch.tensor([sizes, sizes]))
    found = metric.measure(on, grid)
    for row in range(2):
        for size in range(6):
            chosen = subsets[row, 30 * size : 30 * (size + 1)].numpy()
            sums = chosen @ grid[row].double().numpy().ravel()
            costs = [logit_without(np.zeros(16, bool)) - logit_without(removed) for removed in chosen]
            assert found[row, 1 + size] == pytest.approx(np.corrcoef(sums, costs)[0, 1], abs=1e-4)
        assert found[row, 0] == pytest.approx(float(found[row, 1:].mean()))


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
