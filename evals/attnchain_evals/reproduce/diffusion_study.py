"""The two tables: samples by guidance, and segmentation without words; choices are made on other seeds and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.bundled.digit_classifier import bundled_digit_classifier
from attnchain_evals.metrics.segment_matching import acc_and_miou, counts
from attnchain_evals.metrics.statistics import interval
from attnchain_evals.report.markdown import table
from attnchain_evals.reproduce.digit_segmentation import BRIGHTNESS, CEILING, Choice, Reading, found, tuned
from attnchain_evals.reproduce.guided_samples import NONE, TITLES, Guidance, guidance_scores, over_seeds
from attnchain_evals.reproduce.sample_scores import SampleScores
from attnchain_evals.tasks.textured_digits import Example, TexturedDigits

REAL: Final = 2048  # test images that samples are held against
Scored = dict[Guidance, NDArray[np.float64]]  # (seed, score): the columns of SampleScore
_IMPORTANCES: Final = tuple(name for name in TITLES if name != NONE.importance)
_APART: Final = 1000  # from the first seed that chooses the scale to the first that is reported


class GuidanceStudy(NamedTuple):
    """Scores by seed of every guidance on the seeds that chose its scale, and on the others with the chosen scale.

    Attributes:
        tried: on the seeds that choose.
        reported: on the others; no guidance first.
        real: of as many real images, as if they were samples.
    """

    tried: Scored
    reported: Scored
    real: NDArray[np.float64]


class SegmentationStudy(NamedTuple):
    """What was chosen on validation images, and the pixel counts (image, 5) of each method on test images."""

    chosen: dict[str, Choice]
    counts: dict[str, NDArray[np.float64]]


def study_guidance(
    pipe: Any,
    scales: Sequence[float],
    images: int,
    choosing_seeds: int,
    seeds: int,
    steps: int,
    classes: bool,
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> GuidanceStudy:
    """Chooses each importance's scale by the least mean Fréchet distance on some seeds, and scores it on others.

    Args:
        pipe: the diffusion model.
        scales: to choose from.
        images: samples for each seed.
        choosing_seeds, seeds: how many choose, and how many are reported.
        steps: of sampling.
        classes: whether samples are asked to be of a class.
        seed: the first of those that choose; reported ones begin a thousand later.
        say: is told of every guidance that is scored.
    """
    real = next(TexturedDigits("test", REAL).batches(REAL))
    scores = SampleScores(bundled_digit_classifier(), real.image)

    def of(guidance: Guidance, first: int, several: int) -> NDArray[np.float64]:
        result = guidance_scores(pipe, guidance, scores, images, range(first, first + several), steps, classes)
        say(f"{guidance}: Fréchet distance {result[:, 0].mean():.3f}, inception score {result[:, 1].mean():.3f}")
        return result

    tried = {
        Guidance(name, scale): of(Guidance(name, scale), seed, choosing_seeds) for name in _IMPORTANCES for scale in scales
    }
    best = [
        min((one for one in tried if one.importance == name), key=lambda one: tried[one][:, 0].mean()) for name in _IMPORTANCES
    ]
    reported = {guidance: of(guidance, seed + _APART, seeds) for guidance in (NONE, *best)}
    others = TexturedDigits("validation", images * seeds)
    held = [scores(batch.image, batch.label if classes else None) for batch in others.batches(images)]
    return GuidanceStudy(tried, reported, np.array(held, dtype=np.float64))


def study_segmentation(pipe: Any, validation: Example, test: Example, readings: Sequence[Reading]) -> SegmentationStudy:
    """Tunes every method on validation images and counts its pixels on test images."""
    chosen = tuned(pipe, validation, readings)
    regions = found(pipe, test, chosen)
    return SegmentationStudy(chosen, {name: counts(region, test.mask) for name, region in regions.items()})


def guidance_tables(study: GuidanceStudy) -> str:
    """The reported scores with their paired differences, and under them the choice of scales, in markdown."""
    classes = not np.isnan(study.real[:, 2]).any()
    base, column = study.reported[NONE], next(s for g, s in study.reported.items() if g.importance == "column-sum")

    def row(name: str, own: NDArray[np.float64]) -> list[str]:
        cells = [name, str(over_seeds(own[:, 0])), str(over_seeds(own[:, 1]))]
        if classes:
            cells.append(str(over_seeds(own[:, 2])))
        for other in (base, column):
            known = name != "real images" and own is not other
            cells.append(str(over_seeds(own[:, 0] - other[:, 0])) if known else "")
        return cells

    head = ["guidance", "Fréchet distance ↓", "inception score ↑", *(["of the class asked for ↑"] if classes else [])]
    head += ["distance − that of none", "distance − that of column sum"]
    rows = [row(str(guidance), own) for guidance, own in study.reported.items()]
    main = table(head, [*rows, row("real images", study.real)])
    scales = sorted({guidance.scale for guidance in study.tried})
    tried = [
        [TITLES[name], *(f"{study.tried[Guidance(name, scale)][:, 0].mean():.3f}" for scale in scales)]
        for name in _IMPORTANCES
    ]
    return f"{main}\n\nFréchet distance on the seeds that chose the scale:\n\n{table(['scale', *map(str, scales)], tried)}\n"


def segmentation_table(study: SegmentationStudy) -> str:
    """Accuracy and mean IoU of every method, and the paired difference of its mean IoU from DiffSeg as published."""
    base = study.counts["DiffSeg, uniform anchors"]

    def miou(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return acc_and_miou(means)[1]

    rows = []
    for name, own in study.counts.items():
        both = np.concatenate([own, base], 1)
        difference = "" if own is base else str(interval(lambda means: miou(means[:5]) - miou(means[5:]), both))
        choice = study.chosen[name]
        acc = interval(lambda means: acc_and_miou(means)[0], own)
        read = [] if name in (BRIGHTNESS, CEILING) else [str(choice.reading)]
        told = ", ".join(filter(None, [*read, choice.setting]))
        rows.append([name, str(acc), str(interval(miou, own)), difference, told])
    return (
        table(["method", "accuracy ↑", "mean IoU ↑", "mean IoU − DiffSeg, uniform", "chosen on validation images"], rows)
        + "\n"
    )
