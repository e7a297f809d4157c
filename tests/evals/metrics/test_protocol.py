from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import auc
from torch import Tensor

from attnchain_evals.metrics import (
    Deletion,
    Protocol,
    ReverseDeletion,
    preset,
)
from attnchain_interp import AttentionError

from .planted import logit_without, order_of, removals, trial


def test_token_masking_against_labels(grid: Tensor) -> None:
    on = trial()
    labelled = replace(on, label=torch.tensor([1, 0]))
    for name, sign in (("token-masking", 1), ("token-masking/lowest", -1)):
        metric = preset(name, target="label")
        assert isinstance(metric, Deletion | ReverseDeletion)
        steps = sorted({round(16 * step) for step in metric.protocol.steps})
        for row, example in enumerate(grid):
            kept = [logit_without(removed, left=0) > 0 for removed in removals(order_of(sign * example), steps)]
            right = np.array(kept if row == 0 else ~np.array(kept), float)
            assert metric.measure(labelled, grid)[row, 0] == pytest.approx(auc(np.array(steps) / 16, right), abs=1e-6)
        with pytest.raises(AttentionError, match="scores the right classes, but the trial has no labels"):
            metric.measure(on, grid)
    assert Protocol(score="accuracy", target="label").name == "mean/accuracy/label"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"occlusion": 5}, "occlusion=5 is unknown"),
        ({"score": 1}, "score=1 is unknown"),
        ({"fractions": "x"}, "fractions is 'x'"),
        ({"features": 5}, "features is 5"),
        ({"batch_size": "a"}, "batch_size is 'a'"),
    ],
)
def test_settings_of_wrong_types_are_refused_at_once(setting: dict[str, Any], named: str) -> None:
    for name in ("srg", "comprehensiveness"):
        with pytest.raises(AttentionError, match=named):
            preset(name, **setting)
