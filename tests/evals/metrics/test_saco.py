from __future__ import annotations

import numpy as np
import pytest
import torch

from attnchain_evals.metrics import (
    SaCo,
)

from .planted import logit_without, order_of, probability, trial


def test_saco_by_its_formula() -> None:
    grid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))  # no two groups cost the same
    found = SaCo(groups=4, features="patch").measure(trial(), grid)[:, 0]
    for row, example in enumerate(grid):
        order = order_of(example)
        groups = [order[4 * k : 4 * k + 4] for k in range(4)]
        salience = [sum(float(example.flatten()[place]) for place in group) for group in groups]
        clean = probability(logit_without(np.zeros(16, bool)))
        costs = [clean - probability(logit_without(np.isin(np.arange(16), group))) for group in groups]
        score = total = 0.0
        for i in range(4):
            for j in range(i + 1, 4):
                weight = salience[i] - salience[j]
                score += weight if costs[i] >= costs[j] else -weight
                total += abs(weight)
        assert found[row] == pytest.approx(score / total, abs=1e-5)
