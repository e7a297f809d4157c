"""Runs of methods on really trained models, and the pages that are made of the figures alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf, isclose
from pathlib import Path
from typing import Any, final

from attnchain_evals import BenchmarkResult, benchmark
from attnchain_evals.bench.names import build_methods
from attnchain_evals.bench.tables import change, figure, table
from attnchain_evals.metrics import ExampleMetric
from attnchain_evals.metrics.statistics import holm
from attnchain_interp.errors import AttentionError
from studies.report_pages import ROOT, kept, write

Summary = dict[str, Any]


@final
@dataclass(frozen=True)
class Task:
    """A data set, with the methods and metrics that are measured on it.

    Attributes:
        title: of the section of the page.
        question: a sentence, the question that the metrics answer.
        methods: the specs of methods, as `attnchain bench run --methods` takes them.
        metrics: of each method.
        limit: the greatest number of examples.
    """

    title: str
    question: str
    methods: Sequence[str]
    metrics: Sequence[ExampleMetric]
    limit: int | None = None

    def of(self, methods: Sequence[str] | None, baseline: str) -> Task:
        """Returns the task with these methods and the baseline alone; None for all methods."""
        return self if methods is None else replace(self, methods=tuple(dict.fromkeys((baseline, *methods))))


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
    """Measures a task, or continues it, and returns the figures of the page. See `benchmark` for the arguments."""
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


def beside(before: Summary, found: Summary) -> Summary:
    """Returns the figures of a task with those of further methods beside them. Holm's p is computed again, over all methods.

    The model and our own code are the same where the baseline's scores are.

    Raises:
        AttentionError: other data or libraries, or a baseline with other scores: the figures are not comparable.
    """
    baseline, same = before["baseline"], ("examples", "baseline", "metrics", "data", "code")
    other = [name for name in same if before[name] != found[name]]
    scores = [
        (each[end], found["scores"][baseline][metric][end])
        for metric, each in before["scores"][baseline].items()
        for end in each
    ]
    if other or not all(one == another or isclose(one, another, rel_tol=1e-5, abs_tol=1e-7) for one, another in scores):
        raise AttentionError(
            f"the kept figures have other {', '.join(other) or f'scores of {baseline}'}.",
            "Measure all methods: leave out --methods.",
        )
    differences = deepcopy({**before["differences"], **found["differences"]})
    for metric in before["metrics"]:
        rows = [row[metric] for row in differences.values()]
        nan = float("nan")
        for row, p in zip(rows, holm([nan if row["p"] is None else row["p"] for row in rows]), strict=True):
            row["p_holm"] = None if p != p else p
    return {**before, "model": found["model"], "scores": {**before["scores"], **found["scores"]}, "differences": differences}


def section(task: Task, found: Summary) -> str:
    """Returns a section: scores, and differences from the baseline."""
    metrics = list(found["metrics"])
    titles = [f"{name} {'↑' if found['metrics'][name] else '↓'}" for name in metrics]
    best_first = -1 if found["metrics"][metrics[0]] else 1
    first = {method: row[metrics[0]]["value"] for method, row in found["scores"].items()}
    by_first = sorted(first, key=lambda method: inf if first[method] is None else best_first * first[method])
    scores = [[f"`{method}`", *(figure(found["scores"][method][name]) for name in metrics)] for method in by_first]
    others = [method for method in by_first if method != found["baseline"]]
    differences = [[f"`{method}`", *(change(found["differences"][method][name]) for name in metrics)] for method in others]
    left = found["data"].get("left_out", {}) if isinstance(found["data"], Mapping) else {}
    counted = ", ".join(f"{count} ({reason})" for reason, count in left.items() if count)
    asked = f" {found['data']['asked']} prompts were asked. Left out: {counted}." if counted else ""
    return (
        f"## {task.title}\n\n{task.question} {found['examples']} examples.{asked}\n\n{table(['method', *titles], scores)}\n\n"
        f"Difference from {found['baseline']}, paired:\n\n{table(['method', *titles], differences)}\n"
    )


def keep(path: str, found: Mapping[str, Summary], page: str, text: str) -> None:
    """Writes the figures, and the page that is made of them."""
    write({path: json.dumps(found, indent=1) + "\n", page: text})


def carry_out(
    about: str,
    tasks: Sequence[str],
    measured: Callable[[argparse.Namespace], Mapping[str, Summary]],
    figures: str,
    path: str,
    page: Callable[[Mapping[str, Summary]], str],
) -> None:
    """Runs the command of a study, whose page is made of kept figures.

    Figures of the test split are kept beside those of other tasks. With `--limit` nothing is kept.

    Args:
        about: the help of the command.
        tasks: the names that `--tasks` takes.
        measured: the options → the figures of each task.
        figures, path: where figures and page are kept, below the root.
        page: makes the page.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="the folder of a model of transformers")
    parser.add_argument("data", nargs="?", type=Path, help="the folder of the data")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=list(tasks))
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--methods", nargs="+", help="measure these and the baseline alone, beside the kept figures")
    parser.add_argument("--limit", type=int, help="examples of a task at most; nothing is kept, for testing only")
    parser.add_argument("--output", type=Path, default=Path(Path(path).stem), help="the folder of the runs")
    parser.add_argument("--page", action="store_true", help="make the page of the kept figures, and measure nothing")
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit is {options.limit}; it is a number of examples from 1 on.")
    if options.methods:  # a run of its own
        options.output = options.output / " ".join(options.methods)
    found: Mapping[str, Summary] = {}
    if not options.page:
        if options.model is None or options.data is None:
            parser.error("the folders of the model and of the data are needed, or --page.")
        found = measured(options)
        if options.split != "test" or options.limit is not None:
            return
    known = kept(figures) if (ROOT / figures).exists() else {}  # another run may have kept its own by now
    known |= {name: beside(known[name], of) if options.methods and name in known else of for name, of in found.items()}
    keep(figures, known, path, page(known))


def versions(found: Iterable[Summary]) -> str:
    """Returns a sentence: the versions and the weights with which all tasks were measured."""
    code = sorted({f"{name} {version}" for task in found for name, version in task["code"].items()})
    weights = sorted({task["model"][:16] for task in found})
    return f"Versions: {', '.join(code)}. Weights sha256 {'…, '.join(weights)}…."
