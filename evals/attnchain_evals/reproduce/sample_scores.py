"""How near samples of digits come to real ones: Fréchet distance and inception score, on a digit classifier."""

from __future__ import annotations

import warnings
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from attnchain_evals.bundled.digit_classifier import DigitClassifier
from attnchain_evals.tasks.textured_digits import SIDE
from attnchain_interp import AttentionError

_AT_ONCE: Final = 256  # images classified at a time


class SampleScore(NamedTuple):
    """Of one set of samples.

    Attributes:
        frechet: distance ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½) of the features from those of the real images; lower is better.
        inception: exp of the mean KL(p(y | x) ‖ p(y)) of the classes, from 1 to their number; higher is better.
        accuracy: share of the samples that are classified as the class asked for; NaN where none was.
    """

    frechet: float
    inception: float
    accuracy: float


@final
class SampleScores:
    """Scores sets of samples (batch, 1, 32, 32) in [0, 1] against real images.

    Both scores are torchmetrics', with the classifier in the place of Inception. The Fréchet distance is biased upwards by
    few samples, so compare sets of one size.

    Args:
        classifier: its `features` are those of the distance, its logits those of the score.
        real: (batch, 1, 32, 32), of the images that samples should be like.
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
        """The scores of samples, and how many show the class `labels` (batch,) that was asked for.

        Raises:
            AttentionError: fewer than two samples, or images of another shape.
        """
        if samples.shape[1:] != (1, SIDE, SIDE) or len(samples) < 2:
            raise AttentionError(f"samples are {tuple(samples.shape)}; give at least two, (batch, 1, {SIDE}, {SIDE}).")
        from torchmetrics.image.inception import InceptionScore

        self._distance.reset()
        self._update(samples, real=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it holds ten numbers an image, and has no deviation over one split
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
