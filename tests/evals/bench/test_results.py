"""Statistics of a table against numpy, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.metrics import MeanIoU
from attnchain_evals.metrics.statistics import holm, interval, permutation_p
from attnchain_evals.report.setting_effects import effects
from attnchain_interp import AttentionError

from ..bench_tasks import Centre, Examples, Peak, Reader, plan


def made(values: dict[str, list[float]], settings: dict[str, dict[str, object]] | None = None) -> BenchmarkResult:
    """A result of one metric, less is better, with these figures."""
    rows = [("k", e, m, "centre", 1, "value", v) for m, column in values.items() for e, v in enumerate(column)]
    frame = pd.DataFrame(rows, columns=["run", "example", "method", "metric", "version", "column", "value"])
    methods = settings or {name: {"class": name} for name in values}
    configuration = {"methods": methods, "metrics": {"centre": {"columns": ["value"]}}, "limit": None}
    return BenchmarkResult({"key": "k", "examples": 4, "configuration": configuration}, frame, [Centre()])


RESULT = {"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 2.0, 2.0, 5.0], "c": [0.0, float("nan"), 9.0, 9.0]}


def test_scores_wins_and_ranks_by_hand() -> None:
    result = made(RESULT)
    assert result.finished
    assert result.scores["a"]["centre"].value == 2.5
    assert result.scores["c"]["centre"].value == 6, "NaN is left out"
    assert result.undefined == {"a": {"centre": 0}, "b": {"centre": 0}, "c": {"centre": 1}}
    wins = result.wins("centre")  # on examples 0, 2 and 3
    assert wins[0, 1] == pytest.approx(2 / 3)
    assert wins[2].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2])
    ranks = {method: row["centre"] for method, row in result.ranks.items()}
    assert ranks == pytest.approx({"a": (2 + 2 + 1) / 3, "b": (3 + 1 + 2) / 3, "c": (1 + 3 + 3) / 3})
    difference = result.differences["b"]["centre"]
    assert (result.baseline, difference.score.value, difference.wins) == ("a", 0.25, pytest.approx(1 / 3))
    assert result.differences["c"]["centre"].score.value == pytest.approx((-1 + 6 + 5) / 3)


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


def test_effects_of_a_choice() -> None:
    settings = {f"m{s}{h}": {"class": "x.Method", "steps": s, "heads": h, "fixed": 1} for s in (1, 2) for h in ("p", "q")}
    result = made({name: [float(k), float(k + 1), 0.0, 1.0] for k, name in enumerate(settings)}, settings)
    found = {
        (e.setting, e.value): (e.score.value, e.difference and e.difference.score.value) for e in effects(result, "centre")
    }
    assert found == {
        ("steps", "1"): (0.75, None),
        ("steps", "2"): (1.75, 1),
        ("heads", '"p"'): (1, None),
        ("heads", '"q"'): (1.5, 0.5),
    }
    changes = [e.difference for e in effects(result, "centre") if e.difference is not None]
    assert [change.corrected for change in changes] == holm([change.p for change in changes])
    assert [change.wins for change in changes] == [0.25, 0.25], "less is better, and two of four are equal"


def test_class_specific_or_not_is_compared_on_equal_settings() -> None:
    """Of the plain class the first value of what it has alone; pairs without a partner are left out."""
    plain = {f"p{s}{h}": {"class": "x.Bounce", "steps": s, "heads": h} for s in (1, 2, 3) for h in ("mean", "other")}
    sisters = {f"g{s}": {"class": "x.GradientBounce", "steps": s} for s in (2, 1)}
    settings: dict[str, dict[str, object]] = {**plain, **sisters}
    values = {"p1mean": 1.0, "p2mean": 3.0, "p3mean": 90.0, "g1": 4.0, "g2": 8.0}
    result = made({name: [values.get(name, 50.0)] * 4 for name in settings}, settings)
    found = [e for e in effects(result, "centre") if e.setting == "class-specific"]
    assert [(e.kind, e.value, e.score.value) for e in found] == [("Bounce", "false", 2), ("Bounce", "true", 6)]
    assert found[1].difference is not None
    assert (found[1].difference.score.value, found[1].difference.wins) == (4, 0)


def test_one_call_in_memory() -> None:
    result = benchmark(Reader().eval(), list(Examples().images), plan().methods, [Peak(), Centre()], limit=5)
    assert len(result.table()) == 5 * 3 * 3
    assert result.undefined["magnitude"] == {"peak": 1, "centre": 0}
    own = result.figures("magnitude", "peak")
    assert result.scores["magnitude"]["peak"].value == pytest.approx(np.nanmean(own[:, 0]))
    assert "(1 undefined)" in result.markdown()
    assert 'a "name", &lt;b>\\|' in result.markdown()


def test_torn_examples_and_unknown_metrics() -> None:
    rows = made(RESULT).table()
    whole = made(RESULT).manifest
    torn = rows.drop(index=4)
    result = BenchmarkResult(whole, torn, [Centre()])
    assert (result.examples, result.finished) == ([0, 2, 3], False)
    with pytest.raises(AttentionError, match="pass them in metrics="):
        BenchmarkResult(whole, rows, [Peak()])
    with pytest.raises(AttentionError, match="no example has all its rows"):
        BenchmarkResult(whole, rows.head(2), [Centre()])
    with pytest.raises(AttentionError, match="baseline='d' is not among the methods: a, b, c"):
        BenchmarkResult(whole, rows, [Centre()], "d")
    with pytest.raises(AttentionError, match="there is no none/run.json"):
        BenchmarkResult.read("none", [Centre()])


def test_the_default_baseline_is_rollout() -> None:
    assert made({"x": [1.0, 2.0], "Rollout": [1.0, 2.0]}).baseline == "Rollout"
