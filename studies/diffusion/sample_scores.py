"""Scores of sampled digits against real ones: Fréchet distance and inception score, on the digit classifier."""

from __future__ import annotations

import warnings
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from attnchain_evals.tasks.textured_digits import SIDE
from attnchain_interp import AttentionError
from studies.diffusion.digit_classifier import DigitClassifier

_AT_ONCE: Final = 256  # images classified at a time


class SampleScore(NamedTuple):
    """The scores of one set of samples.

    Attributes:
        frechet: distance ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½) between the features of samples and real images; lower is better.
        inception: exp of the mean KL(p(y | x) ‖ p(y)) of the classes, from 1 to the number of classes; higher is better.
        accuracy: share of the samples that the classifier gives the requested class; NaN without requested classes.
    """

    frechet: float
    inception: float
    accuracy: float


@final
class SampleScores:
    """Scores sets of samples (batch, 1, 32, 32) in [0, 1] against real images.

    torchmetrics computes both scores; the classifier takes the place of Inception. Few samples bias the Fréchet distance
    upwards, so compare sets of one size.

    Args:
        classifier: its `features` give the distance, its logits give the inception score.
        real: (batch, 1, 32, 32), the images that samples should resemble.
    """

    def __init__(self, classifier: DigitClassifier, real: Tensor) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._classifier = classifier.eval()
        size = (1, SIDE, SIDE)
        self._distance = FrechetInceptionDistance(
            classifier.features, reset_real_features=False, normalize=True, input_img_size=size
        )
        self._update(real, real=True)

    @torch.no_grad()
    def __call__(self, samples: Tensor, labels: Tensor | None = None) -> SampleScore:
        """Returns the scores of samples, and the share of them that show the requested class `labels` (batch,).

        Raises:
            AttentionError: fewer than two samples, or images of another shape.
        """
        if samples.shape[1:] != (1, SIDE, SIDE) or len(samples) < 2:
            raise AttentionError(
                f"samples have the shape {tuple(samples.shape)}; at least two of (1, {SIDE}, {SIDE}) are required.",
                f"Give samples (batch, 1, {SIDE}, {SIDE}) with a batch of two or more.",
            )
        from torchmetrics.image.inception import InceptionScore

        self._distance.reset()
        self._update(samples, real=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its memory is ten numbers an image; one split has no deviation
            inception = InceptionScore(self._classifier, splits=1)
            for part in samples.split(_AT_ONCE):
                inception.update(part)
            score = float(inception.compute()[0])
        right = float("nan")
        if labels is not None:
            found = torch.cat([self._classifier(part).argmax(1) for part in samples.split(_AT_ONCE)])
            right = float((found == labels).float().mean())
        return SampleScore(float(self._distance.compute()), score, right)

    @torch.no_grad()
    def _update(self, images: Tensor, real: bool) -> None:
        for part in images.split(_AT_ONCE):
            self._distance.update(part, real=real)
