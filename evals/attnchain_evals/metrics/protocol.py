"""How a perturbation curve is taken: everything but the model, the examples and the attributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import features_of, perturbation
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_evals.perturbation.perturbation_curve import Mode, Order, PerturbationCurve, Rounding
from attnchain_interp import AttentionError


def trapezoid(curve: PerturbationCurve) -> Tensor:
    """(batch,): the area by the trapezoidal rule against the actual fractions, over their range."""
    return curve.auc


def equally_spaced(curve: PerturbationCurve) -> Tensor:
    """(batch,): (Σs − s₀/2 − s_n/2) / n, as RISE has it; the last step may be shorter than the others and counts as one."""
    scores = curve.scores
    return (scores.sum(1) - (scores[:, 0] + scores[:, -1]) / 2) / (scores.shape[1] - 1)


@final
@dataclass(frozen=True)
class Protocol:
    """How curves are taken and integrated.

    Attributes:
        occlusion, features, score, ends, batch_size, rounding: as in `perturbation_curve`; a label map for features must be
            made by a callable, since it belongs to the images. Of texts "token" and "word" are those of the trial's words.
        fractions: as there, or a callable (height, width) → the numbers of pixels, with features="pixel".
        area: what a curve comes to.
        target: whose class is scored: that of the clean "prediction", or the "label" of the data.
    """

    occlusion: str | Occlusion = "mean"
    features: Features = "patch"
    fractions: int | tuple[float, ...] | Callable[[int, int], Sequence[int]] = 20
    score: ClassScore = "probability"
    ends: bool = True
    area: Callable[[PerturbationCurve], Tensor] = trapezoid
    batch_size: int = 64
    target: Literal["prediction", "label"] = "prediction"
    rounding: Rounding = "nearest"

    @property
    def name(self) -> str:
        """Of the occlusion, and of score and target where they are not the probability of the prediction."""
        named = (self.score, "probability"), (self.target, "prediction")
        return "/".join((occlusion_named(self.occlusion).name, *(own for own, usual in named if own != usual)))

    @property
    def steps(self) -> tuple[float, ...]:
        """The fractions of a curve, in rising order; none where they depend on the images."""
        if callable(self.fractions) or not isinstance(self.features, str):
            return ()
        count = self.fractions if isinstance(self.fractions, int) else 0
        given = tuple(step / count for step in range(count + 1)) if count else tuple(self.fractions)  # type: ignore[arg-type]
        return tuple(sorted({*given, *((0.0, 1.0) if self.ends else ())}))

    @property
    def symmetric(self) -> bool:
        """Whether with every fraction there is its complement, so that insertion shows what deletion in reverse shows."""
        there = {round(step, 9) for step in self.steps}
        return bool(there) and there == {round(1 - step, 9) for step in there}

    def curve(self, trial: Trial, attributions: Tensor, mode: Mode, order: Order) -> PerturbationCurve:
        """The curve of a trial, taken once for all metrics that read it."""

        def taken() -> PerturbationCurve:
            experiment = perturbation(trial, self.occlusion, self.batch_size)
            chosen: dict[str, Any] = {"score": self.score, "ends": self.ends, "rounding": self.rounding}
            chosen["features"] = features_of(trial, self.features)
            return experiment.curve(attributions, self.classes(trial), mode, order, self._fractions(trial), **chosen)

        return trial.once((replace(self, area=trapezoid), attributions, mode, order), taken)

    def classes(self, trial: Trial) -> Tensor:
        """(batch,): the classes that are scored.

        Raises:
            AttentionError: labels are asked for, and the trial has none.
        """
        if self.target == "prediction":
            return trial.target
        if trial.label is None:
            raise AttentionError(
                'target="label" scores the classes that the data say are right, and these data say none: take labelled data,'
                ' or target="prediction".'
            )
        return trial.label

    def sampled(self, curve: PerturbationCurve) -> Tensor:
        """(batch, step): the scores at `steps`, each at the fraction that rounding to whole features made of it."""
        steps = torch.tensor(self.steps, dtype=curve.fractions.dtype, device=curve.fractions.device)
        nearest = (curve.fractions.expand(curve.scores.shape)[:, None] - steps[:, None]).abs().argmin(2)
        return curve.scores.gather(1, nearest)

    def _fractions(self, trial: Trial) -> int | Sequence[float]:
        if not callable(self.fractions):
            return self.fractions
        height, width = trial.inputs.shape[-2:]
        return [count / (height * width) for count in self.fractions(height, width)]
