from __future__ import annotations

import numpy as np
import pytest
import torch

from attnchain_evals.metrics import (
    SaCo,
)

from ..summed_tokens import ORACLE, p
from ..summed_tokens import trial as text_trial
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


def test_an_example_of_few_features_has_a_group_for_each() -> None:
    """Four words in ten groups. Beside it is an example of two words, and then one of a single word."""
    words = torch.tensor([[-1, 0, 1, 2, 3], [-1, 0, 0, 1, 1]])
    found = SaCo(occlusion="pad-token", features="word").measure(text_trial(words=words), ORACLE)[:, 0]
    clean, *without = p(0.5, -1.5, -0.5, 0.5, 1.5)  # weights 2, 1, 0, −1: each more salient word costs more
    assert sorted(clean - score for score in without)[::-1] == [clean - score for score in without]
    assert found.tolist() == [1, 1]
    reverse = SaCo(occlusion="pad-token", features="word").measure(text_trial(words=words), -ORACLE)[:, 0]
    assert reverse.tolist() == [-1, -1]
    lone = torch.tensor([[-1, 0, 0, 0, 0]] * 2)
    assert SaCo(occlusion="pad-token", features="word").measure(text_trial(words=lone), ORACLE).isnan().all()
