"""The reports of a folder: `report.md`, `report.json` and `report.html`; and the effect of each setting, over all others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.bench.comparison import compared, each_alone
from attnchain_evals.bench.example_maps import read_example_maps
from attnchain_evals.bench.results import BenchmarkResult, plain, without_nan
from attnchain_evals.bench.sanity_checks import read_checks
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.metrics.statistics import Difference, Groups, Score, holm, rounded, score_of, win_share
from attnchain_evals.report.page import as_markdown, page
from attnchain_interp.files import write_text

REPORT_SCHEMA = "attnchain-bench-report/2"


def write_report(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Writes the three reports and returns their paths."""
    kept = read_checks(folder / "sanity.json")
    found = as_json(result, {} if kept is None else kept[1])
    texts = {
        "report.md": as_markdown(found),
        "report.json": json.dumps(found, indent=1),
        "report.html": page(result, found, read_example_maps(folder)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


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
    then = {name: entry.get("version") for name, entry in configuration["metrics"].items()}
    if old := [
        f"{name} ({then[name]}, not {own.version})"
        for name, own in result.metrics.items()
        if then[name] not in (None, own.version)
    ]:
        found.append(f"Measured by other versions of metrics than this library has, so not comparable: {', '.join(old)}.")
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


class Effect(NamedTuple):
    """The effect of one value of a setting.

    Attributes:
        kind: the class of the methods.
        setting: its name.
        value: as JSON has it.
        score: that of the figures averaged over all variants that have the value, example by example.
        difference: from the first value; None of that itself. p is corrected over all effects by the metric.
    """

    kind: str
    setting: str
    value: str
    score: Score
    difference: Difference | None


def setting_effects(result: BenchmarkResult, metric: str) -> list[Effect]:
    """Returns the effects of settings in which variants of a class differ."""
    judge, found = result.metrics[metric], list[Effect]()
    for kind, setting, groups in _comparisons(result.manifest["configuration"]["methods"], result.methods):
        means = {value: np.mean([result.figures(name, metric) for name in names], 0) for value, names in groups.items()}
        first = next(iter(means.values()))
        for k, (value, own) in enumerate(means.items()):
            found.append(
                Effect(
                    kind,
                    setting,
                    value,
                    score_of(judge.summary, own, result.groups),
                    _against(judge, own, first, result.groups) if k else None,
                )
            )
    corrected = iter(holm([effect.difference.p for effect in found if effect.difference is not None]))
    return [
        effect._replace(difference=effect.difference and effect.difference._replace(corrected=next(corrected)))
        for effect in found
    ]


def _comparisons(settings: dict[str, dict[str, Any]], methods: list[str]) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Yields (class, setting, value → the methods with the value), for at least two values."""
    kinds: dict[str, list[str]] = {}
    for method in methods:
        kinds.setdefault(settings[method]["class"].rsplit(".", 1)[-1], []).append(method)
    for kind, own in kinds.items():
        for name in [name for name in settings[own[0]] if name != "class"]:
            groups: dict[str, list[str]] = {}
            for method in own:
                groups.setdefault(json.dumps(settings[method].get(name)), []).append(method)
            if len(groups) > 1:
                yield kind, name, groups


def _against(metric: ExampleMetric, own: NDArray[np.float64], first: NDArray[np.float64], groups: Groups | None) -> Difference:
    score, p = compared(metric, own, first, groups)
    alone = rounded(each_alone(metric, np.stack([own, first]))) * (1 if metric.higher_is_better else -1)
    return Difference(score, p, p, win_share(*alone))
