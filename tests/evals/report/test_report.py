"""The reports: well formed, self-contained, everything escaped, and plain about what a reader must know."""

from __future__ import annotations

import json
import re
from pathlib import Path

from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share, run
from attnchain_evals.report.report import write_report

from ..bench_tasks import HOSTILE, plan


def test_every_report_says_what_must_be_known(folder: Path) -> None:
    notes = json.loads((folder / "report.json").read_text())["notes"]
    assert notes[0] == "For testing only: limited to 5 examples (--limit)."
    assert notes[1].startswith("2 figures are undefined (NaN)")
    assert notes[2] == f"Passes none of the sanity checks: {HOSTILE}."
    assert "**For testing only: limited to 5 examples (--limit).**" in (folder / "report.md").read_text()
    assert "For testing only: limited to 5 examples (--limit)." in (folder / "report.html").read_text()


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
