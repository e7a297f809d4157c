"""The study of guidance: scores of samples by guidance. The seeds that choose the scales differ from the reported ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from attnchain_evals.bench.tables import table
from attnchain_evals.bundled.guided_samples import IMPORTANCES, NONE, TITLES, Guidance, sample
from attnchain_evals.metrics.statistics import Score
from attnchain_evals.tasks.textured_digits import TexturedDigits
from attnchain_interp import AttentionError
from studies.diffusion.digit_classifier import trained_digit_classifier
from studies.diffusion.sample_scores import SampleScores

REAL: Final = 2048  # test images that samples are compared with
Scored = dict[Guidance, NDArray[np.float64]]  # (seed, score): the columns of SampleScore
_REPORTED: Final = 1000  # the first seed that is reported; those that choose the scale begin at 0


class GuidanceStudy(NamedTuple):
    """The scores of each guidance by seed.

    Attributes:
        tried: scores of every scale on the seeds that choose the scale.
        reported: scores of the chosen scales on the other seeds. The samples without guidance come first.
        real: scores of as many real images instead of samples.
    """

    tried: Scored
    reported: Scored
    real: NDArray[np.float64]


def study_guidance(
    pipe: Any,
    scales: Sequence[float],
    images: int,
    choosing_seeds: int,
    seeds: int,
    steps: int,
    classes: bool,
    say: Callable[[str], object] = lambda line: None,
) -> GuidanceStudy:
    """Chooses the scale of each importance by the least mean Fréchet distance on some seeds, and scores it on others.

    Args:
        pipe: the diffusion model.
        scales: the scales to choose from.
        images: samples for each seed.
        choosing_seeds, seeds: number of seeds that choose, and number of seeds that are reported.
        steps: sampling steps.
        classes: whether samples are requested by class.
        say: receives one line for each scored guidance.
    """
    real = next(TexturedDigits("test", REAL).batches(REAL))
    scores = SampleScores(trained_digit_classifier(), real.image)

    def score(guidance: Guidance, first: int, several: int) -> NDArray[np.float64]:
        result = guidance_scores(pipe, guidance, scores, images, range(first, first + several), steps, classes)
        say(f"{guidance}: Fréchet distance {result[:, 0].mean():.3f}, inception score {result[:, 1].mean():.3f}")
        return result

    tried = {
        Guidance(name, scale): score(Guidance(name, scale), 0, choosing_seeds) for name in IMPORTANCES for scale in scales
    }
    best = [
        min((one for one in tried if one.importance == name), key=lambda one: tried[one][:, 0].mean()) for name in IMPORTANCES
    ]
    reported = {guidance: score(guidance, _REPORTED, seeds) for guidance in (NONE, *best)}
    others = TexturedDigits("validation", images * seeds)
    held = [scores(batch.image, batch.label if classes else None) for batch in others.batches(images)]
    return GuidanceStudy(tried, reported, np.array(held, dtype=np.float64))


def guidance_scores(
    pipe: Any, guidance: Guidance, scores: SampleScores, images: int, seeds: Sequence[int], steps: int, classes: bool
) -> NDArray[np.float64]:
    """Returns the columns of `SampleScore` (seed, score) of `images` samples for each seed."""
    rows = [scores(*sample(pipe, guidance, images, seed, steps, classes)) for seed in seeds]
    return np.array(rows, dtype=np.float64)


def over_seeds(values: NDArray[np.float64]) -> Score:
    """Returns the mean of values (seed,) with its 95 % interval by Student's t.

    Raises:
        AttentionError: fewer than two seeds.
    """
    if len(values) < 2:
        raise AttentionError(f"values have {len(values)} seed; an interval needs at least two seeds.", "Use more seeds.")
    mean = float(values.mean())
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Score(mean, mean - half, mean + half)


def guidance_tables(study: GuidanceStudy) -> str:
    """Returns two Markdown tables: the reported scores with their paired differences, and the choice of scales."""
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
        [TITLES[name], *(f"{study.tried[Guidance(name, scale)][:, 0].mean():.3f}" for scale in scales)] for name in IMPORTANCES
    ]
    return f"{main}\n\nFréchet distance on the seeds that chose the scale:\n\n{table(['scale', *map(str, scales)], tried)}\n"
