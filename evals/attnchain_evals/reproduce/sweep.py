"""Zero-shot segmentation by multi-bounce: the number of bounces is chosen on validation images and judged on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from torch import nn

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.names import PLAIN
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.tables import table
from attnchain_evals.metrics import localisation_metrics
from attnchain_interp import AttentionError, MultiBounce

STEPS = (1, 2, 3, 4, 5, 6, 7, 8)


@final
@dataclass(frozen=True)
class Sweep:
    """The results of each number of bounces.

    Attributes:
        steps: the numbers of bounces.
        chosen: the one with the greatest mean IoU on validation.
        validation, test: both results; methods are named by `bounces(n)`, and one bounce is the baseline.
    """

    steps: tuple[int, ...]
    chosen: int
    validation: BenchmarkResult
    test: BenchmarkResult

    def markdown(self) -> str:
        """Returns a table: the scores of each number on both sets, and its difference of test mean IoU from the first."""
        rows = []
        for step in self.steps:
            name = f"{step} (chosen)" if step == self.chosen else str(step)
            found, change = self.test.scores[bounces(step)], self.test.differences.get(bounces(step))
            minus = f"{change['miou'].score}{'*' if change['miou'].corrected < 0.05 else ''}" if change else ""
            rows.append([name, str(self.validation.scores[bounces(step)]["miou"]), *map(str, found.values()), minus])
        tested = [f"test {metric} ↑" for metric in self.test.metrics]
        head = ["bounces", "validation miou ↑", *tested, f"test miou minus that of {self.steps[0]}"]
        return (
            f"{table(head, rows)}\n\nChosen by the mean IoU of {len(self.validation.examples)} validation images; the others"
            f" are {len(self.test.examples)} test images. * marks p < 0.05 (paired permutations, Holm)."
        )


def bounces(steps: int) -> str:
    """Returns the name of a number of bounces in `attnchain bench`."""
    return f"plain MultiBounce(steps={steps})"


def sweep(
    model: nn.Module,
    validation: Any,
    test: Any,
    output: str | Path,
    steps: Sequence[int] = STEPS,
    batch_size: int | Literal["auto"] = 32,
    limit: int | None = None,
    name: str = "",
) -> Sweep:
    """Measures segmentation by `MultiBounce` from the class token, for each number of bounces on both sets.

    Both runs are kept, in `output`/validation and `output`/test, and go on where they stopped.

    Args:
        model: images → logits, in eval mode.
        validation, test: data with masks and an `identity`.
        output: a folder.
        steps: numbers of bounces; the others are compared with the first.
        batch_size, limit, name: see `benchmark`.
    """
    if len(set(steps)) < 2 or len(set(steps)) < len(steps):
        raise AttentionError(
            f"steps={list(steps)}; at least two numbers of bounces, each once, are required.", "Pass steps=(1, 2, 3)."
        )
    methods = {bounces(step): MultiBounce(steps=step, **PLAIN) for step in steps}
    found = {
        part: benchmark(
            model,
            data,
            methods,
            localisation_metrics(),
            baseline=bounces(steps[0]),
            batch_size=batch_size,
            limit=limit,
            output=Path(output) / part,
            progress=True,
            name=name,
        )
        for part, data in (("validation", validation), ("test", test))
    }
    scores = found["validation"].scores
    chosen = max(steps, key=lambda step: scores[bounces(step)]["miou"].value)
    return Sweep(tuple(steps), chosen, found["validation"], found["test"])
