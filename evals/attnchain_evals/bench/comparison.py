"""The scores of single examples, and the paired difference of two methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.metrics.statistics import Groups, Score, permutation_p, score_of


def each_alone(metric: ExampleMetric, figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the metric's score (…, example) of each example by itself, of figures (…, example, column)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(metric.summary(np.moveaxis(figures, -1, 0)))


def compared(
    metric: ExampleMetric, own: NDArray[np.float64], base: NDArray[np.float64], groups: Groups | None = None
) -> tuple[Score, float]:
    """Returns the metric's score of one method − that of another, with its interval, and p.

    Both figures are (example, column) of the same examples. Examples count on which both are defined. Those of a group stay
    together.
    """
    width, good = len(metric.columns), ~(np.isnan(own).any(1) | np.isnan(base).any(1))

    def difference(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return metric.summary(means[:width]) - metric.summary(means[width:])

    both = own[good], base[good], None if groups is None else groups[good]
    p = permutation_p(metric.summary, *both) if good.sum() > 1 else float("nan")
    return score_of(difference, np.concatenate([own, base], 1), groups), p
