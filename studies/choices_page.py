"""Writes `docs/choices.md`, the effect of each choice: `python -m studies.choices_page --report choices/report.json`.

`attnchain bench run --config studies/choices.toml --output choices` writes the report. The part that the page needs is kept as
`docs/choices.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from attnchain_evals.bench.tables import Report, figure, markdown, setting_frames, table
from studies.report_pages import as_kept, write

KEPT = "docs/choices.json"
TITLES = {"srg(occlusion='mean'": "SRG, mean colour", "srg(occlusion='blur'": "SRG, blur", "miou": "mean IoU"}
BEST = 8
ASKED = {
    "heads": "Heads weighted by λ₂ or by its inverse, against their mean",
    "steps": "Two to eight bounces, against one",
    "damping": "Damping of 0.7 to 0.99, against 0.5",
    "layers": "The last three layers or the last one, against all",
    "class-specific": "Transitions weighted by the gradient of the class, against attention alone, all else equal",
}


def title(metric: str) -> str:
    return TITLES[metric.split(",")[0]]


def retitled(report: Report) -> dict[str, Any]:
    """Returns the report with short names of its metrics."""
    run = report["run"]
    configuration = run["configuration"]
    named = {title(name): row for name, row in configuration["metrics"].items()}
    return {
        **report,
        "run": {**run, "configuration": {**configuration, "metrics": named}},
        "effects": {title(name): rows for name, rows in report["effects"].items()},
        "scores": {method: {title(name): score for name, score in row.items()} for method, row in report["scores"].items()},
    }


def sentence(report: Report, setting: str) -> str:
    """Says in how many cases a setting changes each metric, with the lowest and the highest of these differences."""
    parts = []
    for metric, rows in report["effects"].items():
        found = [row["difference"] for row in rows if row["setting"] == setting and row["difference"] is not None]
        apart = sum((difference["p_holm"] or 0.0) < 0.05 for difference in found)
        low, high = (round(choose(difference["value"] for difference in found), 3) + 0.0 for choose in (min, max))
        parts.append(f"{apart or 'none'} of {len(found)} by {metric} ({low:+.3f} to {high:+.3f})")
    return f"{ASKED[setting]}: a difference in {', '.join(parts[:-1])} and {parts[-1]}."


def pages(report: Report) -> dict[str, str]:
    """Returns path → text of every page that is made of the report."""
    found = retitled(report)
    metrics, methods = list(found["effects"]), len(found["scores"])
    best = sorted(found["scores"].items(), key=lambda item: -item[1][metrics[0]]["value"])[:BEST]
    rows = [[method, *(figure(row[name]) for name in metrics)] for method, row in best]
    limit = report["run"]["configuration"]["limit"]
    planned = f" of {report['run']['examples']}" if report["examples"] != report["run"]["examples"] else ""
    options = "" if limit is None else f" --limit {limit}"
    page = f"""# The effect of each choice

By `attnchain bench run --config studies/choices.toml{options} --output choices` and
`python -m studies.choices_page --report choices/report.json`: {methods} methods with the bundled vision transformer,
on the first {report["examples"]}{planned} validation images of `ClutteredDigits`. SRG is taken at 1/16, 1/4, 3/4 and 15/16
of the patches. The report behind this page is [choices.json](choices.json); the defaults were chosen by
[another run](defaults.md).

A figure is the mean over all variants that share the value, image by image [95 % bootstrap interval]: the effect of a choice
whatever else is chosen. Differences are paired; * marks p < 0.05 of a paired permutation test, corrected by Holm over all
choices of a metric. What holds on average need not hold at the best settings, which are below.

## What it says

In how many cases a choice makes a difference after the correction, and the lowest and the highest of all its differences:

{chr(10).join(f"- {sentence(found, setting)}" for setting in ASKED)}

## Effects

{(chr(10) * 2).join(map(markdown, setting_frames(found)))}

## The best of all

The {BEST} highest by {metrics[0]}. The highest of {methods} is flattered by being chosen.

{table(["method", *metrics], rows)}
"""
    return {"docs/choices.md": page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True, help="report.json of the run")
    report = json.loads(parser.parse_args().report.read_text(encoding="utf-8"))
    write({KEPT: as_kept(report, "differences", "ranks", "undefined")} | pages(report))


if __name__ == "__main__":
    main()
