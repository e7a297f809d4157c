"""The base classes of metrics of attributions, and the experiments that they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.perturbation.class_score import ClassScore, class_score
from attnchain_evals.perturbation.features import Features, each_token
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_evals.perturbation.perturbation import Perturbation
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of, check_tensor, check_whole_number
from attnchain_interp.reprs import brief


class AttributionMetric(ExampleMetric):
    """A metric of attributions: (batch, rows, columns) of images, one score per patch or pixel, or (batch, token) of texts.

    Where an attribution holds NaN or infinity, all figures of the example are NaN.
    """

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        """Returns the figures (batch, column) in float64.

        Raises:
            AttentionError: a trial of texts for a metric of images, or the reverse; or attributions of another shape.
        """
        check_tensor("attributions", attributions, "(batch, rows, columns), or (batch, token) of texts")
        text = trial.inputs.ndim == 2
        there, asked = ("text", "images") if text else ("images", "text")
        if asked in self.needs:
            raise AttentionError(
                f"{self.name} is a metric of {asked}, and the trial holds {there}.",
                f"Choose a metric of {there} in docs/evaluation.md.",
            )
        if (
            attributions.shape != trial.inputs.shape
            if text
            else attributions.ndim != 3 or len(attributions) != len(trial.inputs)
        ):
            axes, output = ("token", "tokens") if text else ("rows, columns", "grid")
            raise AttentionError(
                f"attributions has shape {tuple(attributions.shape)} for {len(trial.inputs)} inputs; {self.name} needs (batch,"
                f" {axes}).",
                f'Ask the method for output="{output}".',
            )
        bad = ~attributions.isfinite().flatten(1).all(1)
        wide = bad.view(-1, *[1] * (attributions.ndim - 1))
        state = None if attributions.is_inference() else attributions._version  # an edit in place raises it
        finite = trial.once(
            ("finite", attributions, state),
            lambda: (attributions if attributions.is_floating_point() else attributions.double()).masked_fill(wide, 0),
        )
        figures, shape = self.figures(trial, finite), (len(trial.inputs), len(self.columns))
        if not isinstance(figures, Tensor) or tuple(figures.shape) != shape:
            raise AttentionError(
                f"the figures of {self.name} are {brief(figures)}; they must be a tensor (batch, column) of {shape}.",
                f"Correct {type(self).__name__}.figures: one column is figures[:, None].",
            )
        return figures.double().masked_fill(bad.to(figures.device)[:, None], torch.nan)

    @abstractmethod
    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        """Returns the figures (batch, column) of finite attributions."""


class RemovalMetric(AttributionMetric):
    """A metric that removes sets of features under one occlusion.

    Args:
        family: of the metric.
        occlusion: how features are removed.
        name: the family and the occlusion's name when None: "saco/mean".
        batch_size: inputs per forward.
        columns: the names of the figures of an example.
    """

    needs = frozenset({"logits"})

    def __init__(
        self, family: str, occlusion: str | Occlusion, name: str | None, batch_size: int, columns: tuple[str, ...] = ("value",)
    ) -> None:
        check_whole_number("batch_size", batch_size, "the number of inputs of a forward")
        self.occlusion, self.batch_size = occlusion_named(occlusion), batch_size
        super().__init__(name or f"{family}/{self.occlusion.name}", columns)

    def experiment(self, trial: Trial) -> tuple[Perturbation, Tensor]:
        """Returns the trial under the occlusion, and its checked classes (batch,)."""
        experiment = perturbation(trial, self.occlusion, self.batch_size)
        return experiment, experiment.target(trial.explained)


def perturbation(trial: Trial, occlusion: str | Occlusion, batch_size: int) -> Perturbation:
    """Returns the trial's model and inputs under an occlusion, made once for all metrics and methods."""
    occlusion = occlusion_named(occlusion)

    def made() -> Perturbation:
        known: dict[str, Tensor] = trial.once(("clean", batch_size), dict)  # the same under every occlusion
        found = Perturbation(trial.model, trial.inputs, occlusion, batch_size, first=trial.first, **known)
        known["clean"] = found.clean
        return found

    return trial.once(("perturbation", occlusion, batch_size), made)


def features_of(trial: Trial, features: Features) -> Features:
    """Returns "auto", "token" and "word" as label maps of the trial's texts, made once. Other features are unchanged."""
    if trial.inputs.ndim != 2 or not isinstance(features, str) or (features in ("auto", "token") and trial.words is None):
        return features
    if features not in ("auto", "token", "word") or trial.words is None:
        raise AttentionError(
            f"features={features!r} are not features of this trial's texts.",
            'Use "token", or "word" and give the trial words.',
        )
    words = trial.words
    return words if features == "word" else trial.once("each token", lambda: each_token(words))


def check_score(score: Any) -> None:
    """Refuses a score of another name."""
    check_one_of("score", score, get_args(ClassScore))


def random_subsets(sizes: Sequence[int], features: int, examples: int, first: int, seed: int) -> Tensor:
    """Returns one random subset of each size for each example: (batch, subset, feature) bool.

    The seed and the number of the example in the data (`first` and on) fix its subsets.
    """

    def rows(example: int) -> NDArray[np.bool_]:
        places = np.random.default_rng([seed, first + example]).random((len(sizes), features)).argsort(1).argsort(1)
        return places < np.asarray(sizes)[:, None]

    return torch.from_numpy(np.stack([rows(example) for example in range(examples)]))


def drops(experiment: Perturbation, labels: Tensor, subsets: Tensor, target: Tensor, score: ClassScore) -> Tensor:
    """Returns f(x) − f(x without the subset) as (batch, subset) in float64, for subsets (batch, subset, feature)."""
    without = experiment.scores_without(labels, subsets.transpose(0, 1), target, score)
    return class_score(experiment.clean, target, score).double()[:, None] - without.double()
