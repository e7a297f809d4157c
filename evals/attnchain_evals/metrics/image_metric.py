"""What metrics of images share: shapes are checked, attributions that are not finite have no figure."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.occlusion import Occlusion, occlusion_named
from attnchain_evals.perturbation import Perturbation
from attnchain_interp import AttentionError


class ImageMetric(ExampleMetric):
    """A metric of attributions (batch, rows, columns) of images, one score per patch or per pixel.

    Where an attribution holds NaN or infinity, all of the example's figures are NaN.
    """

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        """(batch, column) float64.

        Raises:
            AttentionError: attributions that are not (batch, rows, columns), or what the metric needs and the trial lacks.
        """
        if attributions.ndim != 3 or len(attributions) != len(trial.inputs):
            raise AttentionError(
                f"attributions has shape {tuple(attributions.shape)} for {len(trial.inputs)} inputs; {self.name} needs (batch,"
                ' rows, columns): ask the method for output="grid".'
            )
        bad = ~attributions.isfinite().flatten(1).all(1)
        finite = trial.once(("finite", attributions), lambda: attributions.masked_fill(bad[:, None, None], 0))
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
