"""Differences of two methods beside their parts."""

from __future__ import annotations

import numpy as np
import pytest

from attnchain_evals.bench.comparison import compared, each_alone
from attnchain_evals.metrics.statistics import interval, permutation_p

from ..bench_tasks import Centre

OWN, BASE = np.random.default_rng(0).normal(size=(2, 12, 1)) + np.array([0.5, 0])[:, None, None]
GROUPS = np.arange(12) // 3


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_the_difference_is_that_of_examples_on_which_both_are_defined(groups: np.ndarray | None) -> None:
    torn = OWN.copy()
    torn[4] = np.nan
    score, p = compared(Centre(), torn, BASE, groups)
    good = np.arange(12) != 4
    there = None if groups is None else groups[good]
    assert score == pytest.approx(interval(lambda means: means[0], (OWN - BASE)[good], there))
    assert p == permutation_p(Centre().summary, OWN[good], BASE[good], there)
    assert (p > 0.1) == (groups is not None), "four groups have 16 ways to change places"
    assert np.isnan(compared(Centre(), OWN[:1], BASE[:1])[1])


def test_examples_by_themselves() -> None:
    assert each_alone(Centre(), np.stack([OWN, BASE])).tolist() == np.stack([OWN, BASE])[..., 0].tolist()
