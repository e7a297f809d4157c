"""Segments without names against classes: matched image by image, then counted class by class."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.metrics.partition_scores import covering
from attnchain_interp import AttentionError


def matched_counts(segments: Tensor, classes: Tensor, count: int) -> Tensor:
    """Returns the true positives, false positives and false negatives of each class in one image: (3, class), in pixels.

    Each class is given one segment, so that the most pixels are right (the Hungarian method). A segment that no class of the
    image has may be given to a class that the image lacks, where its pixels are false positives; the rest is nobody's.

    Args:
        segments: (height, width) the number of each pixel's segment.
        classes: (height, width) the number of each pixel's class, below 0 where nobody labelled it: it counts nowhere.
        count: the number of classes.

    Raises:
        AttentionError: the number of a class is not below `count`.

    Source: the code of Tian et al., *Diffuse, Attend, and Segment*, CVPR 2024.

    >>> matched_counts(torch.tensor([[7, 7, 8, 8]]), torch.tensor([[0, 0, 0, 1]]), 2)
    tensor([[2., 1.],
            [0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    labelled = classes >= 0
    greatest = int(classes.max()) if classes.numel() else -1
    if greatest >= count:
        raise AttentionError(
            f"classes holds the number {greatest}, and of {count} classes the greatest is {count - 1}.",
            f"Give the number of classes, at least {greatest + 1}, or number them from 0.",
        )
    own, numbers = segments[labelled].cpu().unique(return_inverse=True)
    width = max(count, len(own))
    both = torch.bincount(classes[labelled].cpu() * width + numbers, minlength=count * width).view(count, width).double()
    chosen = torch.from_numpy(linear_sum_assignment(both.numpy(), maximize=True)[1])
    right = both[torch.arange(count), chosen]
    return torch.stack([right, both.sum(0)[chosen] - right, both.sum(1) - right])


class _PartitionMetric(ExampleMetric):
    """A metric of labels (1, height, width) in place of attributions, against the mask (1, 2, height, width) of a trial."""

    version = 1
    higher_is_better = True

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        if trial.mask is None or trial.mask.shape[-2:] != attributions.shape[-2:]:
            raise AttentionError(
                f"{self.name} needs the classes and segments of every pixel.", "Use data that have them, such as CocoPanoptic."
            )
        return self.compared(attributions[0].to(trial.mask.device), trial.mask[0])[None]

    @abstractmethod
    def compared(self, segments: Tensor, truth: Tensor) -> Tensor:
        """Returns the figures (column,) of segments (height, width) against classes and segments (2, height, width)."""


@final
class MatchedIoU(_PartitionMetric):
    """The mean over classes of the IoU of pooled pixels. See `matched_counts`.

    Args:
        classes: their number.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        super().__init__(
            "miou", tuple(f"{what} {number}" for what in ("right", "extra", "lacking") for number in range(classes))
        )

    def compared(self, segments: Tensor, truth: Tensor) -> Tensor:
        return matched_counts(segments, truth[0], self.classes).flatten()

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        right, extra, lacking = means.reshape(3, self.classes, *means.shape[1:])
        whole = right + extra + lacking
        return np.nanmean(np.where(whole > 0, right / np.where(whole > 0, whole, 1), np.nan), axis=0)


@final
class MatchedAccuracy(_PartitionMetric):
    """The share of labelled pixels whose segment is that of their class. See `matched_counts`.

    Args:
        classes: their number.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        super().__init__("acc", ("right", "labelled"))

    def compared(self, segments: Tensor, truth: Tensor) -> Tensor:
        right, _, lacking = matched_counts(segments, truth[0], self.classes).sum(1)
        return torch.stack([right, right + lacking])

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        return means[0] / means[1]


@final
class PanopticCovering(_PartitionMetric):
    """The covering of the labelled segments, things one by one; undefined where nobody labelled a pixel. See `covering`."""

    def __init__(self) -> None:
        super().__init__("covering")

    def compared(self, segments: Tensor, truth: Tensor) -> Tensor:
        labelled = truth[1] >= 0
        if not bool(labelled.any()):
            return torch.full((1,), torch.nan, dtype=torch.float64)
        return covering(segments[labelled][None], truth[1][labelled][None, None])
