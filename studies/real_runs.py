"""Runs of methods on really trained models, and the pages that are made of them alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from attnchain_evals import BenchmarkResult, benchmark
from attnchain_evals.bench.names import build_methods
from attnchain_evals.bench.tables import change, figure, table
from attnchain_evals.metrics import ExampleMetric
from studies.report_pages import write

Summary = dict[str, Any]


@final
@dataclass(frozen=True)
class Task:
    """A data set, with the methods and metrics that are measured on it.

    Attributes:
        title: of the section of the page.
        question: the question that its metrics answer, a sentence.
        methods: the specs of methods, as `attnchain bench run --methods` takes them.
        metrics: of each method.
        limit: how many examples at most.
    """

    title: str
    question: str
    methods: Sequence[str]
    metrics: Sequence[ExampleMetric]
    limit: int | None = None


def measure(
    model: Any,
    data: Any,
    task: Task,
    grid: tuple[int, int] | None,
    folder: Path,
    baseline: str,
    batch_size: int,
    limit: int | None = None,
) -> Summary:
    """Measures a task, or goes on with it, and returns what a page needs. See `benchmark` for the arguments."""
    made, limit = build_methods(task.methods, model, grid), limit or task.limit
    options: dict[str, Any] = {"baseline": baseline, "batch_size": batch_size, "limit": limit, "output": folder}
    return summary(benchmark(model, data, made, task.metrics, progress=True, **options))


def summary(found: BenchmarkResult) -> Summary:
    """Returns the scores, the paired differences, and the identity of the data, the model and the code."""
    report = found.summary()
    configuration = report["run"]["configuration"]
    return {
        "examples": report["examples"],
        "baseline": report["baseline"],
        "metrics": {name: of["higher_is_better"] for name, of in configuration["metrics"].items()},
        "scores": report["scores"],
        "differences": report["differences"],
        "data": configuration["data"],
        "model": configuration["model"]["sha256"],
        "code": {name: version for name, version in configuration["code"].items() if name != "sources"},
    }


def section(task: Task, found: Summary) -> str:
    """Returns a section: scores, and differences from the baseline."""
    metrics = list(found["metrics"])
    titles = [f"{name} {'↑' if found['metrics'][name] else '↓'}" for name in metrics]
    by_first = sorted(found["scores"], key=lambda method: -(found["scores"][method][metrics[0]]["value"] or 0.0))
    scores = [[f"`{method}`", *(figure(found["scores"][method][name]) for name in metrics)] for method in by_first]
    others = [method for method in by_first if method != found["baseline"]]
    differences = [[f"`{method}`", *(change(found["differences"][method][name]) for name in metrics)] for method in others]
    left = found["data"].get("left_out", {}) if isinstance(found["data"], Mapping) else {}
    counted = "; ".join(f"{count}: {reason}" for reason, count in left.items() if count)
    asked = f" Of {found['data']['asked']} prompts some are left out ({counted})." if counted else ""
    return (
        f"## {task.title}\n\n{task.question} {found['examples']} examples.{asked}\n\n{table(['method', *titles], scores)}\n\n"
        f"Difference from {found['baseline']}, paired:\n\n{table(['method', *titles], differences)}\n"
    )


def keep(path: str, found: Mapping[str, Summary], page: str, text: str) -> None:
    """Writes the figures, and the page that is made of them."""
    write({path: json.dumps(found, indent=1) + "\n", page: text})


def versions(found: Iterable[Summary]) -> str:
    """Returns the versions and the weights that all tasks were measured with, as a sentence."""
    code = sorted({f"{name} {version}" for task in found for name, version in task["code"].items()})
    weights = sorted({task["model"][:16] for task in found})
    return f"Versions: {', '.join(code)}. Weights sha256 {'…, '.join(weights)}…."
