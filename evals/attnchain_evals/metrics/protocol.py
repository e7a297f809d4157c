"""The settings of a perturbation curve, without the model, the examples and the attributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import (
    check_score,
    features_of,
    perturbation,
)
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.curve import Mode, Order, PerturbationCurve, Rounding, checked_fractions
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.label_map import check_features
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of, check_whole_number


def trapezoid(curve: PerturbationCurve) -> Tensor:
    """Returns the area (batch,) by the trapezoidal rule against the actual fractions, divided by their range."""
    return curve.auc


def equally_spaced(curve: PerturbationCurve) -> Tensor:
    """Returns the area (batch,) of RISE: (Σs − s₀/2 − s_n/2) / n, of n + 1 distinct steps. A shorter last one counts whole."""
    scores, steps = curve.scores, curve.distinct
    return ((scores * steps).sum(1) - (scores[:, 0] + scores[:, -1]) / 2) / (steps.sum(1) - 1)


@final
@dataclass(frozen=True)
class Protocol:
    """The settings of perturbation curves and of their area.

    Attributes:
        occlusion, score, ends, batch_size: See `perturbation_curve`.
        features: See `perturbation_curve`. A label map belongs to the images, so a callable must make it. "token" and "word"
            are those of the trial's words.
        fractions, rounding: See `perturbation_curve`. None, the default, is the metric's own. With features="pixel" fractions
            can also be a callable (height, width) → the numbers of pixels.
        area: a curve → its area (batch,).
        target: the class that is scored: of the clean "prediction", or the "label" of the data.
    """

    occlusion: str | Occlusion = "mean"
    features: Features = "auto"
    _: KW_ONLY
    fractions: int | Sequence[float] | Callable[[int, int], Sequence[int]] | None = None
    score: ClassScore = "probability"
    ends: bool = True
    area: Callable[[PerturbationCurve], Tensor] = trapezoid
    batch_size: int = 64
    target: Literal["prediction", "label"] = "prediction"
    rounding: Rounding | None = None

    def __post_init__(self) -> None:
        occlusion_named(self.occlusion)
        check_score(self.score)
        check_one_of("rounding", self.rounding, (*get_args(Rounding), None))
        check_one_of("target", self.target, ("prediction", "label"))
        check_whole_number("batch_size", self.batch_size, "the number of inputs of a forward")
        check_features(self.features)
        if isinstance(self.features, np.ndarray):  # tensors have a hash
            object.__setattr__(self, "features", torch.from_numpy(self.features))
        if isinstance(self.fractions, int):
            check_whole_number("fractions", self.fractions, "the number of steps")
        elif self.fractions is not None and not callable(self.fractions):
            object.__setattr__(self, "fractions", checked_fractions(self.fractions))

    def filled(self, usual: Protocol) -> Protocol:
        """Returns the settings, with the fractions and the rounding of another protocol where they are None."""
        return replace(
            self,
            fractions=usual.fractions if self.fractions is None else self.fractions,
            rounding=usual.rounding if self.rounding is None else self.rounding,
        )

    @property
    def name(self) -> str:
        """The occlusion's name, with score and target if they are not the probability of the prediction."""
        named = (self.score, "probability"), (self.target, "prediction")
        return "/".join((occlusion_named(self.occlusion).name, *(own for own, usual in named if own != usual)))

    @property
    def steps(self) -> tuple[float, ...]:
        """The fractions of a curve, in rising order. Empty if they depend on the images or on the metric."""
        if self.fractions is None or callable(self.fractions) or not isinstance(self.features, str | tuple):
            return ()
        count = self.fractions if isinstance(self.fractions, int) else 0
        given = tuple(step / count for step in range(count + 1)) if count else tuple(self.fractions)  # type: ignore[arg-type]
        return tuple(sorted({*given, *((0.0, 1.0) if self.ends else ())}))

    def tied(self, trial: Trial, attributions: Tensor) -> Tensor:
        """Returns whether an example has features of equal scores (batch,)."""
        experiment = perturbation(trial, self.occlusion, self.batch_size)
        return experiment.ranked(attributions, features_of(trial, self.features)).tied

    def curve(self, trial: Trial, attributions: Tensor, mode: Mode, order: Order) -> PerturbationCurve:
        """Returns the curve of a trial, taken once for all metrics that read it."""

        def taken() -> PerturbationCurve:
            experiment = perturbation(trial, self.occlusion, self.batch_size)
            chosen: dict[str, Any] = {"score": self.score, "ends": self.ends, "features": features_of(trial, self.features)}
            own = {"fractions": self._fractions(trial), "rounding": self.rounding}
            chosen |= {name: value for name, value in own.items() if value is not None}
            return experiment.curve(attributions, self.classes(trial), mode, order=order, **chosen)

        return trial.once((replace(self, area=trapezoid), attributions, mode, order), taken)

    def classes(self, trial: Trial) -> Tensor:
        """Returns the classes that are scored (batch,).

        Raises:
            AttentionError: target="label", and the trial has no labels.
        """
        if self.target == "prediction":
            return trial.explained
        if trial.label is None:
            raise AttentionError(
                'target="label" scores the right classes, but the trial has no labels.',
                'Use labelled data, or target="prediction".',
            )
        return trial.label

    def sampled(self, curve: PerturbationCurve) -> Tensor:
        """Returns the scores at `steps` (batch, step), each at the nearest fraction of the curve."""
        steps = torch.tensor(self.steps, dtype=curve.fractions.dtype, device=curve.fractions.device)
        nearest = (curve.fractions.expand(curve.scores.shape)[:, None] - steps[:, None]).abs().argmin(2)
        return curve.scores.gather(1, nearest)

    def _fractions(self, trial: Trial) -> int | Sequence[float] | None:
        if not callable(self.fractions):
            return self.fractions
        height, width = trial.inputs.shape[-2:]
        return [count / (height * width) for count in self.fractions(height, width)]
