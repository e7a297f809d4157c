"""Statistics beside numpy, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attnchain_evals.metrics import (
    MeanIoU,
)
from attnchain_evals.metrics.statistics import holm, interval, permutation_p, rounded, score_of
from attnchain_interp import AttentionError


def test_figures_tie_by_rounding_alone() -> None:
    """(method, example): one large example, figures of 1e-10, rounding, NaN and infinity."""
    values = np.array([[4e6, 1e-3, 3.0, 1e-17, np.nan, np.inf], [4e6, 2e-3, 3 + 1e-12, -2e-17, 1.0, 1.0]])
    found = rounded(values)
    assert (found[0] == found[1]).tolist() == [True, False, True, True, False, False]
    small = rounded(np.array([[1e-10, 2e-10], [3e-10, 2e-10]]))
    assert (small[0] == small[1]).tolist() == [False, True]
    assert rounded(np.empty((2, 0))).shape == (2, 0)


def test_the_permutation_test_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    own, base = rng.normal(0.3, 1, (40, 1)), rng.normal(0, 1, (40, 1))
    theirs = scipy.stats.permutation_test(
        (own[:, 0], base[:, 0]), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", n_resamples=9999, rng=1
    )
    assert permutation_p(lambda means: means[0], own, base) == pytest.approx(theirs.pvalue, abs=0.02)
    few = permutation_p(lambda means: means[0], np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1)))
    assert few == pytest.approx(2 / 8, abs=0.02), "only all signs alike reach the difference"


def test_the_permutation_test_of_a_pooled_score_permutes_whole_examples() -> None:
    rng, metric = np.random.default_rng(0), MeanIoU()
    own, base = (np.sort(rng.random((12, 4)), 1)[:, [0, 1, 0, 2]] + 0.1 for _ in range(2))

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float(metric.summary(first.mean(0)) - metric.summary(second.mean(0)))

    found, hits = abs(difference(own, base)), 0
    for _ in range(4000):
        swap = rng.random((12, 1)) < 0.5
        hits += abs(difference(np.where(swap, base, own), np.where(swap, own, base))) >= found - 1e-12
    assert permutation_p(metric.summary, own, base) == pytest.approx(hits / 4000, abs=0.03)


@pytest.mark.parametrize("scale", [1e-40, 1e-16, 1e9])
def test_a_permutation_test_has_no_scale(scale: float) -> None:
    base, more = np.random.default_rng(0).random((2, 40, 1))
    assert permutation_p(lambda means: means[0], (base + 1 + more) * scale, base * scale) == 1e-4


def test_holm_by_definition() -> None:
    p = [0.02, 0.001, 0.5, 0.012, float("nan")]
    assert holm(p)[:4] == pytest.approx([0.04, 0.004, 0.5, 0.036])
    assert np.isnan(holm(p)[4])
    assert holm([0.6, 0.7]) == [1, 1]
    random = np.random.default_rng(0).random(9)
    assert (scipy.stats.false_discovery_control(random) <= holm(random.tolist())).all()


def test_large_samples_are_resampled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    whole, test = interval(lambda means: means[0], values), permutation_p(lambda means: means[0], values, -values)
    monkeypatch.setattr("attnchain_evals.metrics.statistics._AT_ONCE", 5000)
    assert interval(lambda means: means[0], values) == whole
    assert permutation_p(lambda means: means[0], values, -values) == pytest.approx(test, abs=0.02)


def test_groups_are_resampled_as_wholes() -> None:
    """Twenty groups of one to five equal examples know no more than twenty examples."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), rng.integers(1, 6, 20))
    values = rng.normal(size=20)[groups][:, None]
    places = [np.flatnonzero(groups == k) for k in range(20)]
    means = [values[np.concatenate([places[k] for k in rng.integers(20, size=20)])].mean() for _ in range(4000)]
    score = interval(lambda means: means[0], values, groups)
    assert score.value == pytest.approx(values.mean())
    assert [score.low, score.high] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.05)
    single = interval(lambda means: means[0], values)
    assert score.high - score.low > 1.3 * (single.high - single.low)
    order = rng.permutation(len(values))
    assert interval(lambda means: means[0], values[order], 7 * groups[order]) == pytest.approx(score)
    alone = np.arange(len(values))
    assert interval(lambda means: means[0], values, alone) == interval(lambda means: means[0], values)
    with pytest.raises(AttentionError, match="at least two groups of examples; there are 1"):
        interval(lambda means: means[0], values, 0 * groups)
    torn = np.where(groups[:, None] == 3, np.nan, values)
    kept = groups != 3
    assert score_of(lambda means: means[0], torn, groups) == interval(lambda means: means[0], values[kept], groups[kept])
    lone = score_of(lambda means: means[0], values, 0 * groups)
    assert lone.value == pytest.approx(values.mean())
    assert np.isnan(lone[1:]).all()


def test_the_permutation_test_swaps_whole_groups() -> None:
    """Three groups of ten: only all signs alike reach the difference, in two of eight cases."""
    groups, one = np.repeat(np.arange(3), 10), np.ones((30, 1))
    assert permutation_p(lambda means: means[0], one, 0 * one, groups) == pytest.approx(2 / 8, abs=0.02)
    assert permutation_p(lambda means: means[0], one, 0 * one) == 1e-4
