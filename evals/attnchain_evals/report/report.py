"""The reports of a folder: `report.md`, `report.json` and `report.html`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.metrics.statistics import Difference
from attnchain_evals.report.example_maps import read_shown
from attnchain_evals.report.markdown import Report, effect_tables, table, tables
from attnchain_evals.report.page import page
from attnchain_evals.report.setting_effects import effects
from attnchain_interp.files import write_text

METHOD = (
    "Mean over examples [95 % percentile bootstrap interval, 2,000 resamples]. Differences are paired, example by example;"
    " * marks p < 0.05 of a two-sided paired permutation test (9,999 resamples), corrected by Holm over the methods of each"
    " metric, and for choices over all of its choices. Wins are the share of examples on which a method is better than the"
    " baseline, ties half."
)
EFFECTS = "Each figure is the mean over all variants that share the value, example by example."
REPORT_SCHEMA = "attnchain-bench-report/2"


def write_report(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Writes the three reports and returns their paths."""
    sanity = read_sanity(folder)
    found = as_json(result, sanity)
    texts = {
        "report.md": as_markdown(found),
        "report.json": json.dumps(found, indent=1),
        "report.html": page(result, found, METHOD, read_shown(folder)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def read_sanity(folder: Path) -> dict[str, dict[str, Any]]:
    """Method → check → {"value", "passed"}, of a folder where sanity checks were run."""
    path = folder / "sanity.json"
    return json.loads(path.read_text(encoding="utf-8"))["checks"] if path.exists() else {}


def notes(result: BenchmarkResult, sanity: dict[str, dict[str, Any]]) -> list[str]:
    """What must be known before any figure is read."""
    limit = result.manifest["configuration"]["limit"]
    found = []
    if limit is not None:
        found.append(f"For testing only: limited to {limit} examples (--limit).")
    if not result.finished:
        found.append(
            f"Unfinished: {len(result.examples)} of {result.manifest['examples'] or 'an unknown number of'} examples."
        )
    missing = sum(sum(row.values()) for row in result.undefined.values())
    if missing:
        found.append(f"{missing} figures are undefined (NaN); they are left out and counted in their cells.")
    failed = [method for method, row in sanity.items() if not any(check["passed"] for check in row.values())]
    if failed:
        found.append(f"Passes none of the sanity checks: {', '.join(failed)}.")
    return found


def as_markdown(report: Report) -> str:
    run, sanity = report["run"], report["sanity"]
    head = f"# {run['configuration']['model']['name']}: {report['examples']} examples, {len(report['scores'])} methods"
    parts = [head, *(f"> **{note}**" for note in report["notes"]), METHOD]
    parts.append(tables(report))
    if any(report["effects"].values()):
        parts += ["## Effect of each choice", EFFECTS, effect_tables(report)]
    if sanity:
        checks = list(next(iter(sanity.values())))
        rows = [[method, *(verdict(row[check]) for check in checks)] for method, row in sanity.items()]
        parts += ["## Sanity checks", table(["method", *checks], rows)]
    parts.append(f"Run {run['key']}; the whole configuration is in run.json.")
    return "\n\n".join(parts) + "\n"


def verdict(check: dict[str, Any]) -> str:
    """A sanity check in words."""
    if check["passed"] is None:
        return "not applicable"
    return f"{check['value']:.2f} {'passed' if check['passed'] else 'failed'}"


def as_json(result: BenchmarkResult, sanity: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything that was computed; `docs/bench.md` has the schema. NaN is null."""
    found = {
        "schema": REPORT_SCHEMA,
        "notes": notes(result, sanity),
        "examples": len(result.examples),
        "baseline": result.baseline,
        **scores_as_json(result),
        "differences": {m: {n: _difference(d) for n, d in row.items()} for m, row in result.differences.items()},
        "ranks": result.ranks,
        "wins": {name: dict(zip(result.methods, result.wins(name).tolist(), strict=True)) for name in result.metrics},
        "effects": {
            name: [
                {"class": k, "setting": n, "value": json.loads(v), "score": s._asdict(), "difference": d and _difference(d)}
                for k, n, v, s, d in effects(result, name)
            ]
            for name in result.metrics
        },
        "sanity": sanity,
    }
    return _without_nan(found)


def scores_as_json(result: BenchmarkResult) -> Report:
    """What `as_json` has of the scores by themselves."""
    found = {
        "run": result.manifest,
        "scores": {m: {n: dict(s._asdict()) for n, s in row.items()} for m, row in result.scores.items()},
        "undefined": result.undefined,
    }
    return _without_nan(found)


def _difference(found: Difference) -> dict[str, float]:
    return {**found.score._asdict(), "p": found.p, "p_holm": found.corrected, "wins": found.wins}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and value != value else value
