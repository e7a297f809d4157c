"""ImageNet-Segmentation by the protocol of Chefer et al.: pixel accuracy, mean IoU and mean AP of attention maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attnchain_evals.bench.data_names import open_data
from attnchain_evals.bench.experiment import SetUp
from attnchain_evals.bench.manifest import NAME
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.tables import table
from attnchain_evals.metrics import localisation_metrics
from attnchain_evals.metrics.statistics import Score
from attnchain_evals.reproduce.experiment import Settings, measure, write_page
from attnchain_evals.reproduce.reported import IMAGENET_SEGMENTATION
from attnchain_evals.tasks.examples import Selection
from attnchain_interp import AttentionError

TITLE = "ImageNet-Segmentation"
METHODS = (
    *("RawAttention(layers=-1)", "class row", "ColumnSum", "Rollout", "plain TokenRank", "plain MultiBounce(steps=2)"),
    "MultiBounce(layers=-1, balanced=True)",
    *("GradientAttention", "GradientRollout", "LeGrad", "RandomRanking", "input magnitude"),
)
NAMES = {"acc": "Acc", "miou": "mIoU", "map": "mAP"}
VALIDATION = 5  # with --sweep every fifth image chooses the number of bounces
BOUNCES = tuple(f"plain MultiBounce(steps={steps})" for steps in range(1, 9))


def imagenet_segmentation(settings: Settings) -> str:
    """Measures and returns the page."""
    _check_alone(settings.output, "test")
    result = measure(settings, settings.set_up(), METHODS, localisation_metrics())
    return write_page(settings, TITLE, result, percentages(result), IMAGENET_SEGMENTATION)


def sweep_bounces(settings: Settings) -> str:
    """Chooses the number of bounces on validation images, measures all on test images, and returns the page.

    `ClutteredDigits` have both sets. In other data, every fifth image is for validation. Both runs are kept, in the folders
    `validation` and `test` of the output.
    """
    _check_alone(settings.output, ".")
    where = settings.set_up()
    validation, test = (
        measure(replace(settings, output=settings.output / part), where._replace(data=data), BOUNCES, localisation_metrics())
        for part, data in zip(("validation", "test"), halves(settings, where), strict=True)
    )
    return write_page(settings, f"{TITLE}: bounces swept", test, swept(validation, test), IMAGENET_SEGMENTATION)


def _check_alone(output: Path, other: str) -> None:
    """Refuses a folder that holds a run of the other kind, with or without --sweep, whose reports would be replaced."""
    if (output / other / NAME).exists():
        raise AttentionError(
            f"{output} holds another run ({output / other / NAME}).", "Choose another folder, or move this one away."
        )


def swept(validation: BenchmarkResult, test: BenchmarkResult) -> str:
    """Returns a Markdown table: the scores of each number of bounces, and its difference of test mean IoU from the first."""
    first, *_ = BOUNCES
    chosen = max(BOUNCES, key=lambda method: validation.scores[method]["miou"].value)
    rows = []
    for steps, method in enumerate(BOUNCES, 1):
        change = test.differences[method]["miou"] if method != first else None
        minus = "" if change is None else f"{change.score}{'*' if change.corrected < 0.05 else ''}"
        name = f"{steps} (chosen)" if method == chosen else str(steps)
        rows.append([name, str(validation.scores[method]["miou"]), *map(str, test.scores[method].values()), minus])
    head = ["bounces", "validation miou ↑", *(f"test {metric} ↑" for metric in test.metrics), "test miou minus that of 1"]
    return (
        f"{table(head, rows)}\n\nChosen by the mean IoU of {len(validation.examples)} validation images; the others are"
        f" {len(test.examples)} test images. * marks p < 0.05 (paired permutations, Holm)."
    )


def halves(settings: Settings, where: SetUp) -> tuple[object, object]:
    """Returns the validation images and the test images."""
    if settings.data.startswith("digits:"):
        validation, test = (open_data(f"digits:{part}", None, settings.limit, 0) for part in ("validation", "test"))
        return validation, test
    numbers = range(len(where.data))
    rest = [number for number in numbers if number % VALIDATION]
    return Selection(where.data, numbers[::VALIDATION]), Selection(where.data, rest)


def percentages(result: BenchmarkResult) -> str:
    """Method × Acc, mIoU, mAP as Markdown, in per cent as the literature has them, with 95 % intervals."""

    def cell(score: Score) -> str:
        value, low, high = (100 * figure for figure in score)
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    rows = [[method, *(cell(result.scores[method][name]) for name in NAMES)] for method in result.methods]
    return table(["method", *NAMES.values()], rows)
