"""Means over examples with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from attnchain_interp import AttentionError


class Score(NamedTuple):
    """A figure over all examples, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (round(figure, 3) + 0.0 for figure in self)  # + 0.0: no minus before a zero
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], columns: NDArray[np.float64], seed: int = 0
) -> Score:
    """The statistic of all examples, and the 2.5 % and 97.5 % percentiles over 2,000 resamplings of the examples.

    Args:
        statistic: column means (column, …) → (…).
        columns: (example, column) per-example figures; columns of one example stay together, so that differences
            between columns are paired.
        seed: of the resampling.

    Raises:
        AttentionError: fewer than two examples.
    """
    if len(columns) < 2:
        raise AttentionError(f"an interval needs at least two examples; there are {len(columns)}.")

    def of_means(*samples: Any, axis: int) -> Any:
        return statistic(np.stack([sample.mean(axis) for sample in samples]))

    rng = np.random.default_rng(seed)
    found = bootstrap(
        tuple(columns.T), of_means, paired=True, vectorized=True, n_resamples=2000, method="percentile", rng=rng
    ).confidence_interval
    return Score(float(statistic(columns.mean(0))), float(found.low), float(found.high))
