"""The parts that reproductions share: settings, methods that suit a model, and a page with our numbers and reported ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from captum.attr import GradientAttribution

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.experiment import SetUp, set_up
from attnchain_evals.bench.names import build_methods, method_classes, parsed
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share
from attnchain_evals.bench.tables import inert
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.report.report import notes, write_report
from attnchain_evals.reproduce.reported import Reported, reported_table
from attnchain_interp.files import write_text

PAGE = "reproduction.md"


@final
@dataclass(frozen=True)
class Settings:
    """The model and the data of a reproduction, by their names of the command line, and the folder of the run."""

    data: str
    model: str
    output: Path
    limit: int | None = None
    batch_size: int | Literal["auto"] = 32
    device: str | None = None

    def set_up(self) -> SetUp:
        """Loads the model and opens the data."""
        return set_up(self.model, self.data, self.limit, 0, self.device)


def measure(settings: Settings, where: SetUp, methods: Sequence[str], metrics: Sequence[ExampleMetric]) -> BenchmarkResult:
    """Runs the benchmark of the methods that suit the model, and keeps it in the folder."""
    built = build_methods(suited(methods, where), where.model, where.grid)
    return benchmark(
        where.model,
        where.data,
        built,
        metrics,
        batch_size=settings.batch_size,
        limit=settings.limit,
        output=settings.output,
        progress=True,
        name=settings.model,
    )


def suited(methods: Iterable[str], where: SetUp) -> list[str]:
    """Returns the methods that suit the model: none from a class token that it lacks, none of a class if it has none."""

    def suits(spec: str) -> bool:
        name = parsed(spec)[0]
        if name.startswith("class ") or name == "RawAttention":
            return where.class_token
        return "logits" in where.given or not issubclass(method_classes().get(name, object), GradientAttribution)

    return [spec for spec in methods if suits(spec)]


def write_page(settings: Settings, title: str, result: BenchmarkResult, ours: str, reported: Sequence[Reported]) -> str:
    """Writes the reports of the run and the page that sets its numbers beside the reported ones; returns the page."""
    marks = [*notes(result, {}), f"{len(result.examples)} images of {settings.data}, model {settings.model}."]
    parts = (
        f"# {title}",
        "## Measured here, by this library",
        "\n".join(f"- {inert(mark)}" for mark in marks),
        ours,
        "## Reported by others, on their models and settings; not measured here",
        reported_table(reported),
    )
    text = "\n\n".join(parts) + "\n"
    if Share.from_environment().rank == 0:
        write_report(result, settings.output)
        write_text(settings.output / PAGE, text)
    return text
