"""Statistics of a table against numpy, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_interp import AttentionError

from ..bench_tasks import Centre, Examples, Peak, Reader, made, plan

RESULT = {"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 2.0, 2.0, 5.0], "c": [0.0, float("nan"), 9.0, 9.0]}


def test_scores_wins_and_ranks_by_hand() -> None:
    result = made(RESULT)
    assert result.finished
    assert result.scores["a"]["centre"].value == 2.5
    assert result.scores["c"]["centre"].value == 6, "NaN is left out"
    assert result.undefined == {"a": {"centre": 0}, "b": {"centre": 0}, "c": {"centre": 1}}
    wins = result.wins("centre")  # of a and b on all examples, of c on 0, 2 and 3
    assert wins[0, 1] == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    assert wins[2].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2])
    ranks = {method: row["centre"] for method, row in result.ranks.items()}
    assert ranks == pytest.approx({"a": (2 + 2 + 1) / 3, "b": (3 + 1 + 2) / 3, "c": (1 + 3 + 3) / 3})
    difference = result.differences["b"]["centre"]
    assert (result.baseline, difference.score.value, difference.wins) == ("a", 0.25, pytest.approx(3 / 8))
    assert result.differences["c"]["centre"].score.value == pytest.approx((-1 + 6 + 5) / 3)


@pytest.mark.filterwarnings("error")
def test_a_method_without_any_figure_leaves_the_others_their_ranks_and_wins() -> None:
    nan = float("nan")
    result = made({**RESULT, "never": [nan] * 4})
    alone = made(RESULT)
    assert {method: row for method, row in result.ranks.items() if method != "never"} == alone.ranks
    assert np.isnan([*result.ranks["never"].values()]).all()
    assert (result.wins("centre")[:3, :3] == alone.wins("centre")).all()
    assert np.isnan(result.wins("centre")[3]).all()
    assert result.summary()["ranks"]["never"] == {"centre": None, "mean": None}
    assert "| never | nan | nan |" in result.markdown()


@pytest.mark.filterwarnings("error")
def test_a_metric_without_any_figure_is_left_out_of_the_mean_rank() -> None:
    scores, rows = made(RESULT), made(RESULT).table()
    rows = pd.concat([rows, rows.assign(metric="none", value=np.nan)])
    none, manifest = Centre(), scores.manifest
    none.name = "none"
    manifest["configuration"]["metrics"]["none"] = manifest["configuration"]["metrics"]["centre"]
    result = BenchmarkResult(manifest, rows, [Centre(), none])
    assert {method: row["mean"] for method, row in result.ranks.items()} == {
        method: row["centre"] for method, row in scores.ranks.items()
    }
    assert np.isnan(result.wins("none")).all()


@pytest.mark.filterwarnings("error")
def test_one_example_has_a_score_without_an_interval() -> None:
    result = made({"a": [1.0], "b": [3.0], "c": [float("nan")]})
    assert result.scores["b"]["centre"][:1] == (3,)
    assert np.isnan(result.scores["b"]["centre"][1:]).all()
    assert np.isnan(result.scores["c"]["centre"]).all()
    assert result.differences["b"]["centre"].score.value == 2
    assert np.isnan(result.differences["b"]["centre"].p)
    assert "3.000 [nan, nan]" in result.markdown()


def test_small_figures_have_wins_and_ranks() -> None:
    small = made({method: [1e-10 * value for value in column] for method, column in RESULT.items()})
    assert small.ranks == made(RESULT).ranks
    assert small.wins("centre").tolist() == made(RESULT).wins("centre").tolist()
    tied = made({"a": [1e-10, 1e-10], "b": [1e-10 * (1 + 1e-12), 2e-10]})
    assert tied.wins("centre")[0].tolist() == [1 / 2, 3 / 4], "figures that differ by rounding tie"


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
    with pytest.raises(AttentionError, match="Pass them in metrics="):
        BenchmarkResult(whole, rows, [Peak()])
    with pytest.raises(AttentionError, match="no example has all its rows"):
        BenchmarkResult(whole, rows.head(2), [Centre()])
    with pytest.raises(AttentionError, match="baseline='d' is not among the methods.\nUse one of a, b, c"):
        BenchmarkResult(whole, rows, [Centre()], "d")
    with pytest.raises(AttentionError, match="there is no none/run.json"):
        BenchmarkResult.read("none", [Centre()])


def test_the_default_baseline_is_rollout() -> None:
    assert made({"x": [1.0, 2.0], "Rollout": [1.0, 2.0]}).baseline == "Rollout"


def test_examples_of_a_group_stay_together() -> None:
    single, grouped = made(RESULT), made(RESULT)
    grouped.manifest["groups"] = [0, 0, 1, 1]
    assert single.groups is None
    assert grouped.groups is not None
    assert grouped.groups.tolist() == [0, 0, 1, 1]
    score = grouped.scores["a"]["centre"]
    assert (score.low, score.value, score.high) == (1.5, 2.5, 3.5), "means of either group"
    wide = {"a": [0.0, 0.1, 0.2, 0.3], "b": [1.0, 1.1, 1.2, 1.3]}
    single, grouped = made(wide), made(wide)
    grouped.manifest["groups"] = [0, 0, 1, 1]
    assert single.differences["b"]["centre"].p == pytest.approx(2 / 16, abs=0.02), "all signs alike, of four examples"
    assert grouped.differences["b"]["centre"].p == pytest.approx(2 / 4, abs=0.02), "all signs alike, of two groups"
    torn = BenchmarkResult(grouped.manifest, grouped.table().query("example != 1"), [Centre()])
    assert torn.groups is not None
    assert torn.groups.tolist() == [0, 1, 1]
