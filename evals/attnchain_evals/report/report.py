"""The reports of a folder: `report.md`, `report.json` and `report.html`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attnchain_evals.bench.example_maps import read_example_maps
from attnchain_evals.bench.results import BenchmarkResult, plain, without_nan
from attnchain_evals.bench.sanity_checks import read_checks
from attnchain_evals.report.page import as_markdown, page
from attnchain_evals.report.setting_effects import setting_effects
from attnchain_interp.files import write_text

REPORT_SCHEMA = "attnchain-bench-report/2"


def write_report(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Writes the three reports and returns their paths."""
    found = as_json(result, read_sanity(folder))
    texts = {
        "report.md": as_markdown(found),
        "report.json": json.dumps(found, indent=1),
        "report.html": page(result, found, read_example_maps(folder)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def read_sanity(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns method → check → {"value", "passed"}. Empty where no sanity checks were run."""
    kept = read_checks(folder / "sanity.json")
    return {} if kept is None else kept[1]


def notes(result: BenchmarkResult, sanity: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the facts that a reader must know before the figures."""
    configuration = result.manifest["configuration"]
    limit, found = configuration["limit"], []
    if limit is not None:
        found.append(f"For testing only: limited to {limit} examples (--limit).")
    if not result.finished:
        found.append(
            f"Unfinished: {len(result.examples)} of {result.manifest['examples'] or 'an unknown number of'} examples."
        )
    data = configuration.get("data")
    if isinstance(data, dict) and any(left_out := data.get("left_out", {}).values()):
        why = ", ".join(f"{count} because {reason}" for reason, count in data["left_out"].items() if count)
        found.append(f"Left out are {sum(left_out)} of {data['asked']} prompts: {why}.")
    missing = sum(sum(row.values()) for row in result.undefined.values())
    if missing:
        found.append(f"{missing} figures are undefined (NaN); they are left out and counted in their cells.")
    failed = [method for method, row in sanity.items() if not any(check["passed"] for check in row.values())]
    if failed:
        found.append(f"Passes none of the sanity checks: {', '.join(failed)}.")
    return found


def as_json(result: BenchmarkResult, sanity: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns `report.json` as plain data; NaN is None. docs/bench.md has the schema."""
    effects = {
        name: [
            {"class": k, "setting": n, "value": json.loads(v), "score": s._asdict(), "difference": d and plain(d)}
            for k, n, v, s, d in setting_effects(result, name)
        ]
        for name in result.metrics
    }
    head = {"schema": REPORT_SCHEMA, "notes": notes(result, sanity)}
    return without_nan({**head, **result.summary(), "effects": effects, "sanity": sanity})
