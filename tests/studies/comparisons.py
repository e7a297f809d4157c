"""Comparisons of methods with figures that a test chooses."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from attnchain_evals import BenchmarkResult, ClutteredDigits
from attnchain_evals.bench.fingerprint import metric_identity
from studies.class_specific import Comparison, metrics


def images(count: int = 2) -> Tensor:
    return next(ClutteredDigits("validation", count).batches(count)).image


def measured(names: list[str], gain: float, level: str = "") -> Comparison:
    """SRG of the first method above that of the others by `gain`, over 20 examples; not above that of `level`."""
    metric = next(each for each in metrics() if each.name == "srg/mean")
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    values = dict.fromkeys(names, 0.5 - gain + noise) | {names[0]: np.full(20, 0.5)}
    values |= {name: np.full(20, 0.5) for name in names if name == level}
    rows = [("k", k, name, metric.name, 1, c, values[name][k]) for name in names for k in range(20) for c in metric.columns]
    frame = pd.DataFrame(rows, columns=["run", "example", "method", "metric", "version", "column", "value"])
    stated = {
        "methods": {name: {"class": name} for name in names},
        "metrics": {metric.name: metric_identity(metric)},
    }
    manifest = {"key": "k", "examples": 20, "configuration": {**stated, "limit": None, "seed": 0}}
    return Comparison(BenchmarkResult(manifest, frame, [metric], names[0]), 0.9)
