"""Figures over examples: bootstrap intervals, paired differences with their p values, ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from attnchain_interp import AttentionError

_AT_ONCE = 4_000_000  # resampled numbers in memory
_SWAPS = 9999
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Groups = NDArray[np.int64]


class Score(NamedTuple):
    """A figure over all examples, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (round(figure, 3) + 0.0 for figure in self)  # + 0.0: no minus before a zero
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"


class Difference(NamedTuple):
    """A method against the baseline on the same examples.

    Attributes:
        score: method − baseline, with its 95 % bootstrap interval.
        p: the two-sided p of the paired permutation test.
        corrected: p by Holm's procedure, over all methods that this metric compares.
        wins: the share of examples on which the method is better. Ties count half.
    """

    score: Score
    p: float
    corrected: float
    wins: float


def interval(statistic: Statistic, columns: NDArray[np.float64], groups: Groups | None = None) -> Score:
    """Returns the statistic of all examples, with its 2.5 % and 97.5 % percentiles over 2,000 resamplings of the groups.

    Args:
        statistic: column means (column, …) → (…).
        columns: (example, column), the figures of each example. The columns of an example stay together, so differences
            between columns are paired.
        groups: (example,), the number of each example's group. A group stays together. Each example is a group when None.

    Source: Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, § 3.8 (groups).
    """
    sums, counts = _of_groups(columns, groups)
    if len(sums) < 2:
        noun = "examples" if groups is None else "groups of examples"
        raise AttentionError(f"an interval needs at least two {noun}; there are {len(sums)}.", "Pass more examples.")

    def of_means(*samples: Any, axis: int) -> Any:
        *totals, number = (sample.mean(axis) for sample in samples)
        return statistic(np.stack(totals) / number)

    found = bootstrap(
        (*sums.T, counts),
        of_means,
        paired=True,
        vectorized=True,
        n_resamples=2000,
        batch=max(1, _AT_ONCE // len(sums)),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Score(float(statistic(columns.mean(0))), float(found.low), float(found.high))


def score_of(statistic: Statistic, columns: NDArray[np.float64], groups: Groups | None = None) -> Score:
    """Returns the statistic of the examples without NaN, with its interval as `interval` takes it.

    One group has a value and no interval (NaN), and none has neither.
    """
    good = ~np.isnan(columns).any(1)
    defined, groups = columns[good], None if groups is None else groups[good]
    if len(defined if groups is None else np.unique(groups)) > 1:
        return interval(statistic, defined, groups)
    return Score(float(statistic(defined.mean(0))) if len(defined) else np.nan, np.nan, np.nan)


def _of_groups(columns: NDArray[np.float64], groups: Groups | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the sums (group, column) of the figures of each group, and the number of its examples (group,)."""
    if groups is None:
        return columns, np.ones(len(columns))
    _, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((places.max(initial=-1) + 1, columns.shape[1]))
    np.add.at(sums, places, columns)
    return sums, np.bincount(places).astype(np.float64)


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns values (method, example) to nine digits of an example's largest magnitude: what differs by rounding ties.

    Magnitudes below a millionth of the usual one count as this much, since they may be rounding alone.

    >>> rounded(np.array([[3.0, 1e-17], [3.0 + 1e-12, -1e-17]]))
    array([[ 3.,  0.],
           [ 3., -0.]])
    """
    if not values.size:
        return values
    largest = np.abs(np.where(np.isfinite(values), values, 0)).max(0)
    unit = np.maximum(largest, 1e-6 * np.median(largest))
    unit[unit == 0] = 1
    return (values / unit).round(9) * unit


def win_share(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Returns the share of the examples that have both values on which the own one is greater. Ties count half.

    >>> win_share(np.array([1.0, 2.0, 3.0, np.nan]), np.array([0.0, 2.0, np.nan, 1.0]))
    0.75
    """
    both = ~(np.isnan(own) | np.isnan(other))
    own, other = own[both], other[both]
    return float(np.mean((own > other) + (own == other) / 2)) if both.any() else np.nan


def permutation_p(
    statistic: Statistic, own: NDArray[np.float64], base: NDArray[np.float64], groups: Groups | None = None
) -> float:
    """Returns the two-sided p of the paired permutation test: method and baseline change places on random groups.

    p = (1 + #{|t*| ≥ |t|}) / (1 + 9999). t is the statistic of the method's means − that of the baseline's.

    Args:
        statistic: column means (column, …) → (…).
        own, base: (example, column), the same examples.
        groups: see `interval`.
    """
    middle, (half, _) = ((own + base) / 2).mean(0)[:, None], _of_groups((own - base) / 2, groups)

    def difference(signs: NDArray[np.float64]) -> NDArray[np.float64]:
        shift = (signs @ half / len(own)).T  # (column, resample)
        return statistic(middle + shift) - statistic(middle - shift)

    found = abs(float(difference(np.ones((1, len(half))))[0]))
    rng, extreme, rounding = np.random.default_rng(0), 0, 1e-15 * max(np.abs(own).max(), np.abs(base).max())
    at_once = max(1, _AT_ONCE // len(half))
    for start in range(0, _SWAPS, at_once):
        signs = rng.choice([-1.0, 1.0], (min(at_once, _SWAPS - start), len(half)))
        extreme += int((np.abs(difference(signs)) >= found * (1 - 1e-12) - rounding).sum())
    return (1 + extreme) / (1 + _SWAPS)


def holm(p: Sequence[float]) -> list[float]:
    """Returns the p values corrected by Holm's step-down procedure, which bounds the probability of any false finding.

    A NaN (no comparison) stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, worst = list(p), 0.0
    order = sorted((k for k in range(len(p)) if not np.isnan(p[k])), key=lambda k: p[k])
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p[k]))
        corrected[k] = worst
    return corrected
