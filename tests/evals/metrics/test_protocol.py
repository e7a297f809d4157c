from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import auc
from torch import Tensor

from attnchain_evals.metrics import (
    NAOPC,
    Deletion,
    ExampleMetric,
    Infidelity,
    PointingGame,
    Protocol,
    ReverseDeletion,
    SaCo,
    SensitivityN,
    SentenceCorrelation,
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
        ({"fractions": 0}, "fractions is 0"),
        ({"fractions": (0.5, 2)}, r"fractions is \(0.5, 2\); .* from 0 to 1.\nPass fractions=\(0.1, 0.5\)."),
        ({"fractions": [0.5, "a"]}, r"fractions is \[0.5, 'a'\]; .*\nPass fractions=\(0.1, 0.5\)."),
        ({"fractions": (float("nan"),)}, r"fractions is \(nan,\)"),
        ({"fractions": ()}, r"fractions is \(\)"),
        ({"features": [2, 2]}, r"features is \[2, 2\]"),
        ({"features": 5}, 'features is 5, of another type.\nPass features="word", .rows, columns., or a label map.'),
        ({"batch_size": "a"}, "batch_size is 'a'"),
    ],
)
def test_settings_of_wrong_types_are_refused_at_once(setting: dict[str, Any], named: str) -> None:
    for name in ("srg", "comprehensiveness"):
        with pytest.raises(AttentionError, match=named):
            preset(name, **setting)


def test_lists_are_settings_like_tuples(grid: Tensor) -> None:
    for listed, usual in (
        (Deletion(Protocol(fractions=[0.25, 0.5])), Deletion(Protocol(fractions=(0.25, 0.5)))),
        (SensitivityN([0.2, 0.8], 5), SensitivityN((0.2, 0.8), 5)),
        (NAOPC([2, 2]), NAOPC((2, 2))),
    ):
        assert torch.equal(listed.measure(trial(), grid), usual.measure(trial(), grid))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Deletion("mean"), "protocol is of type str"),  # pyright: ignore[reportArgumentType]
        (lambda: SensitivityN((0.5, 2)), r"fractions is \(0.5, 2\); .*\nPass fractions=\(0.1, 0.5\)."),
        (lambda: SensitivityN(0.5), "fractions is 0.5"),  # pyright: ignore[reportArgumentType]
        (lambda: SensitivityN(()), r"fractions is \(\)"),
        (lambda: SensitivityN(samples=1), "samples is 1"),
        (lambda: SensitivityN(score="x"), "score='x' is unknown"),  # pyright: ignore[reportArgumentType]
        (lambda: SensitivityN(seed=-1), "seed is -1"),
        (lambda: Infidelity(samples=0), "samples is 0"),
        (lambda: Infidelity(score="x"), "score='x' is unknown"),  # pyright: ignore[reportArgumentType]
        (lambda: Infidelity(seed=0.5), "seed is 0.5"),  # pyright: ignore[reportArgumentType]
        (lambda: SentenceCorrelation(score="x"), "score='x' is unknown"),  # pyright: ignore[reportArgumentType]
        (lambda: NAOPC(3), "regions is 3"),  # pyright: ignore[reportArgumentType]
        (lambda: NAOPC((3,)), r"regions is \(3,\)"),  # pyright: ignore[reportArgumentType]
        (lambda: NAOPC((3, 0)), r"regions is \(3, 0\); .*\nPass regions=\(3, 3\)."),
        (lambda: NAOPC((3, True)), r"regions is \(3, True\)"),
        (lambda: SaCo(features=[2, 2]), r"features is \[2, 2\]"),  # pyright: ignore[reportArgumentType]
        (lambda: SaCo(batch_size=0), "batch_size is 0"),
        (lambda: PointingGame(-1), "tolerance is -1"),
    ],
)
def test_settings_of_other_metrics_are_refused_at_once(make: Callable[[], ExampleMetric], named: str) -> None:
    with pytest.raises(AttentionError, match=named):
        make()


def test_a_label_map_of_numpy_is_a_tensor() -> None:
    labels: Any = np.zeros((1, 4, 4), dtype=np.int64)
    protocol = Protocol(features=labels)
    assert isinstance(protocol.features, Tensor)
    assert protocol.features.tolist() == labels.tolist()
    hash(protocol)
