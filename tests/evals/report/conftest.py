"""A folder of a run with a method whose name is hostile markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnchain_evals.bench.example_maps import write_example_maps
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share, run
from attnchain_evals.report.report import write_report

from ..bench_tasks import HOSTILE, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    methods = plan().methods
    hostile = plan(methods={"magnitude": methods["magnitude"], HOSTILE: methods["noise"]}, limit=5, name=HOSTILE)
    run(hostile, tmp_path, Share())
    alike = plan(methods={"magnitude": methods["magnitude"], HOSTILE: methods["magnitude"]})
    write_example_maps(alike, tmp_path)
    sanity = {name: {"agreement": {"value": 0.004, "passed": name == "magnitude"}} for name in hostile.methods}
    (tmp_path / "sanity.json").write_text(json.dumps({"examples": 2, "checks": sanity}))
    write_report(BenchmarkResult.read(tmp_path, hostile.metrics), tmp_path)
    return tmp_path
