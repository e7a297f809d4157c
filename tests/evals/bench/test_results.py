"""Statistics of a table against numpy, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.metrics.statistics import holm
from attnchain_evals.report.setting_effects import setting_effects
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


def test_effects_of_a_choice() -> None:
    settings = {f"m{s}{h}": {"class": "x.Method", "steps": s, "heads": h, "fixed": 1} for s in (1, 2) for h in ("p", "q")}
    result = made({name: [float(k), float(k + 1), 0.0, 1.0] for k, name in enumerate(settings)}, settings)
    found = {
        (e.setting, e.value): (e.score.value, e.difference and e.difference.score.value)
        for e in setting_effects(result, "centre")
    }
    assert found == {
        ("steps", "1"): (0.75, None),
        ("steps", "2"): (1.75, 1),
        ("heads", '"p"'): (1, None),
        ("heads", '"q"'): (1.5, 0.5),
    }
    changes = [e.difference for e in setting_effects(result, "centre") if e.difference is not None]
    assert [change.corrected for change in changes] == holm([change.p for change in changes])
    assert [change.wins for change in changes] == [0.25, 0.25], "less is better, and two of four are equal"


def test_class_specific_or_not_is_compared_on_equal_settings() -> None:
    """Of the plain class the first value of what it has alone; pairs without a partner are left out."""
    plain = {f"p{s}{h}": {"class": "x.Bounce", "steps": s, "heads": h} for s in (1, 2, 3) for h in ("mean", "other")}
    sisters = {f"g{s}": {"class": "x.GradientBounce", "steps": s} for s in (2, 1)}
    settings: dict[str, dict[str, object]] = {**plain, **sisters}
    values = {"p1mean": 1.0, "p2mean": 3.0, "p3mean": 90.0, "g1": 4.0, "g2": 8.0}
    result = made({name: [values.get(name, 50.0)] * 4 for name in settings}, settings)
    found = [e for e in setting_effects(result, "centre") if e.setting == "class-specific"]
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
