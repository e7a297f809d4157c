"""What metrics of attributions share: shapes are checked, and what is not finite has no figure."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.perturbation.features import Features, each_token
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_evals.perturbation.perturbation_curve import Perturbation
from attnchain_interp import AttentionError


class AttributionMetric(ExampleMetric):
    """A metric of attributions: (batch, rows, columns) of images, one score per patch or pixel, or (batch, token) of texts.

    Where an attribution holds NaN or infinity, all of the example's figures are NaN.
    """

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        """(batch, column) float64.

        Raises:
            AttentionError: attributions of another shape, or what the metric needs and the trial lacks.
        """
        text = trial.inputs.ndim == 2
        if (
            attributions.shape != trial.inputs.shape
            if text
            else attributions.ndim != 3 or len(attributions) != len(trial.inputs)
        ):
            raise AttentionError(
                f"attributions has shape {tuple(attributions.shape)} for {len(trial.inputs)} inputs; {self.name} needs (batch,"
                + (
                    ' token): ask the method for output="tokens".'
                    if text
                    else ' rows, columns): ask the method for output="grid".'
                )
            )
        bad = ~attributions.isfinite().flatten(1).all(1)
        finite = trial.once(
            ("finite", attributions), lambda: attributions.masked_fill(bad.view(-1, *[1] * (attributions.ndim - 1)), 0)
        )
        figures = self.figures(trial, finite).double()
        return figures.masked_fill(bad.to(figures.device)[:, None], torch.nan)

    @abstractmethod
    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        """(batch, column): the figures of attributions that are finite."""


def perturbation(trial: Trial, occlusion: str | Occlusion, batch_size: int) -> Perturbation:
    """The trial's model and inputs under an occlusion, made once for all metrics and methods."""
    occlusion = occlusion_named(occlusion)
    return trial.once(
        ("perturbation", occlusion, batch_size),
        lambda: Perturbation(trial.model, trial.inputs, occlusion, batch_size, trial.first),
    )


def features_of(trial: Trial, features: Features) -> Features:
    """Tokens and words as the label maps of the trial's texts, made once; other features as they are."""
    if trial.inputs.ndim != 2 or not isinstance(features, str) or (features == "token" and trial.words is None):
        return features
    if features not in ("token", "word") or trial.words is None:
        raise AttentionError(f'features={features!r}; a text has "token", and "word" where the trial has words.')
    words = trial.words
    return words if features == "word" else trial.once("each token", lambda: each_token(words))
