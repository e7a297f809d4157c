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
from attnchain_evals.metrics.subset_metrics import correlation

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


@pytest.mark.parametrize(("one", "other"), [(1e-9, 1e-3), (1e-200, 1e150), (3e9, 1e-30)])
def test_a_correlation_has_no_scale(one: float, other: float) -> None:
    a, b = torch.rand(2, 5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = [np.corrcoef(*pair)[0, 1] for pair in zip(a.numpy(), b.numpy(), strict=True)]
    assert correlation(a * one, b * other).tolist() == pytest.approx(wanted, abs=1e-12)
    constant = torch.full_like(a, 0.1) * one
    assert bool(correlation(constant, b).isnan().all())
    assert bool(correlation(b, 0 * constant).isnan().all())


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
