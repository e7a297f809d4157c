"""The reports: well formed, self-contained, everything escaped, and plain about what a reader must know."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share, run
from attnchain_evals.metrics import MeanIoU
from attnchain_evals.metrics.statistics import holm
from attnchain_evals.report.report import notes, setting_effects, write_report

from ..bench_tasks import ALONE, HOSTILE, made, plan


def test_every_report_says_what_must_be_known(folder: Path) -> None:
    marks = json.loads((folder / "report.json").read_text())["notes"]
    assert marks[0] == "For testing only: limited to 5 examples (--limit)."
    assert marks[1].startswith("2 figures are undefined (NaN)")
    assert marks[2] == f"Passes none of the sanity checks: {HOSTILE}."
    assert "**For testing only: limited to 5 examples (--limit).**" in (folder / "report.md").read_text()
    assert "For testing only: limited to 5 examples (--limit)." in (folder / "report.html").read_text()


def test_a_figure_of_a_check_is_told_from_its_threshold(folder: Path) -> None:
    """Scores follow tokens within 0.001: a figure that fails is not printed as zero."""
    assert "| 0.004 failed |" in (folder / "report.md").read_text()


def test_the_json_report_has_its_schema_and_no_nan(folder: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert found["schema"] == "attnchain-bench-report/2"
    assert found["run"]["configuration"]["schema"] == "attnchain-bench/3"
    keys = {"scores", "undefined", "differences", "ranks", "wins", "effects", "sanity", "examples", "baseline", "notes"}
    assert keys <= set(found)
    assert set(found["differences"][HOSTILE]["peak"]) == {"value", "low", "high", "p", "p_holm", "wins"}


def test_an_unfinished_run_is_reported_as_one(tmp_path: Path) -> None:
    run(plan(), tmp_path, Share())
    part = tmp_path / "rows-00000.csv"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    write_report(BenchmarkResult.read(tmp_path, plan().metrics), tmp_path)
    assert re.search(r"Unfinished: \d of 11 examples", (tmp_path / "report.md").read_text())


def test_figures_of_another_version_of_a_metric_are_marked(tmp_path: Path) -> None:
    run(plan(), tmp_path, ALONE)
    newer = plan().metrics
    newer[0].version = 7
    first, *_ = notes(BenchmarkResult.read(tmp_path, newer), {})
    assert (
        first == f"Measured by other versions of metrics than this library has, so not comparable: {newer[0].name} (1, not 7)."
    )


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


def test_effects_of_pooled_figures_are_those_of_the_other_tables() -> None:
    """Mean IoU pools pixels over the examples. The IoU of each image, averaged, is another number."""
    figures = np.random.default_rng(0).uniform(0.1, 1, (2, 6, 2))
    counts = np.concatenate([figures * figures, figures], 2)[..., [0, 2, 1, 3]]
    metric = MeanIoU()
    rows = [
        ("k", example, method, "miou", 1, column, float(counts[m, example, c]))
        for m, method in enumerate(("one", "two"))
        for example in range(6)
        for c, column in enumerate(metric.columns)
    ]
    frame = pd.DataFrame(rows, columns=["run", "example", "method", "metric", "version", "column", "value"])
    configuration = {
        "methods": {name: {"class": "x.Method", "steps": steps} for steps, name in enumerate(("one", "two"))},
        "metrics": {"miou": {"columns": list(metric.columns), "higher_is_better": True}},
    }
    result = BenchmarkResult({"key": "k", "examples": 6, "configuration": configuration}, frame, [metric])
    one, two = setting_effects(result, "miou")
    assert (one.score, two.score) == (result.scores["one"]["miou"], result.scores["two"]["miou"])
    assert two.difference == result.differences["two"]["miou"]
    grouped = BenchmarkResult({**result.manifest, "groups": [0, 0, 0, 1, 1, 1]}, frame, [metric])
    effect = setting_effects(grouped, "miou")[1]
    assert effect.score == grouped.scores["two"]["miou"] != two.score
    assert effect.difference == grouped.differences["two"]["miou"] != two.difference
