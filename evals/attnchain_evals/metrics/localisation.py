"""Localisation: does the attribution lie on the object? It does not say what the model uses."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.metrics.segmentation_scores import (
    average_precisions,
    foreground_counts,
    mean_iou,
    objects_of,
    scaled,
)
from attnchain_evals.perturbation.patches import enlarged
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_whole_number


class LocalisationMetric(AttributionMetric):
    """A metric against masks of objects. NaN where a mask is empty or full, because there is nothing to localise.

    Maps are enlarged bilinearly to the masks: patches lie where the model reads them.
    """

    needs = frozenset({"images"})
    version = 3  # since 2, maps are enlarged in float64; since 3, patches lie where they are read
    higher_is_better = True

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        size = tuple(trial.inputs.shape[-2:])
        if trial.mask is None:
            raise AttentionError(
                f"the data have no masks, and {self.name} asks whether a map lies on the object.",
                f"Take data with masks (PATH/images beside PATH/masks), or leave {self.name} out.",
            )
        truth = objects_of(trial.mask).to(attributions.device)
        if tuple(truth.shape) != (len(trial.inputs), *size):
            raise AttentionError(
                f"the trial's mask is {tuple(truth.shape)}; {self.name} needs {(len(trial.inputs), *size)}, true on the"
                " object.",
                "Resize the masks to the images, by nearest neighbour.",
            )
        good = truth.flatten(1).any(1) & ~truth.flatten(1).all(1)
        found = torch.full((len(truth), len(self.columns)), torch.nan, dtype=torch.float64, device=attributions.device)
        if bool(good.any()):
            patches = None if tuple(attributions.shape[1:]) == size else trial.patches
            found[good] = self.located(enlarged(attributions[good], size, patches), truth[good]).to(found)
        return found

    @abstractmethod
    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        """Returns the figures (batch, column) of attributions (batch, height, width). No mask is empty or full."""


@final
class PixelAccuracy(LocalisationMetric):
    """The share of pixels that are rightly above or below the map's own mean. See `segmentation_scores`.

    Source: Chefer, Gur & Wolf, CVPR 2021.
    """

    def __init__(self) -> None:
        super().__init__("acc")

    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        return torch.from_numpy(foreground_counts(*scaled(attributions, masks))[:, :1])


@final
class MeanIoU(LocalisationMetric):
    """The mean of the IoU of background and foreground, pooled over all examples. See `segmentation_scores`.

    Source: Chefer, Gur & Wolf, CVPR 2021.
    """

    def __init__(self) -> None:
        super().__init__("miou", ("background", "background union", "foreground", "foreground union"))

    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        return torch.from_numpy(foreground_counts(*scaled(attributions, masks))[:, 1:])

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean_iou(means)


@final
class MeanAP(LocalisationMetric):
    """The mean over examples of the average precision of [1 − map, map]. See `segmentation_scores`.

    Source: Chefer, Gur & Wolf, CVPR 2021.
    """

    def __init__(self) -> None:
        super().__init__("map")

    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        return torch.from_numpy(average_precisions(*scaled(attributions, masks))[:, None])


@final
class PointingGame(LocalisationMetric):
    """Says whether the greatest attribution lies on the object: 1 or 0.

    If several pixels are greatest, the figure is the share of them on the object: the probability of a hit when one is drawn.
    A constant map has the object's share of the image.

    Args:
        tolerance: the distance in pixels from the object that still counts as a hit; 15 in the paper, for its image sizes.

    Source: Zhang et al., *Top-down Neural Attention by Excitation Backprop*, ECCV 2016.
    """

    def __init__(self, tolerance: int = 0) -> None:
        check_whole_number("tolerance", tolerance, "the distance in pixels that still counts as a hit", least=0)
        self.tolerance = tolerance
        super().__init__("pointing-game" if tolerance == 0 else f"pointing-game/{tolerance}")

    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        top = attributions == attributions.amax((1, 2), keepdim=True)
        hit = top & (_grown(masks, self.tolerance) if self.tolerance else masks)
        return (hit.sum((1, 2)).double() / top.sum((1, 2)))[:, None]


@final
class EnergyInside(LocalisationMetric):
    """The share of the positive attribution that lies on the object: Σ_{object} max(φ, 0) / Σ max(φ, 0).

    NaN where nothing is positive. A constant positive map has the object's share.

    Source: Wang et al., *Score-CAM*, CVPR Workshops 2020 (energy-based pointing game).
    """

    def __init__(self) -> None:
        super().__init__("energy-inside")

    def located(self, attributions: Tensor, masks: Tensor) -> Tensor:
        energy = attributions.double().clamp_min(0)
        return ((energy * masks).sum((1, 2)) / energy.sum((1, 2)))[:, None]


def _grown(masks: Tensor, tolerance: int) -> Tensor:
    """Adds all pixels whose distance to the object is at most the tolerance."""
    from scipy.ndimage import distance_transform_edt

    outside = [np.asarray(distance_transform_edt(~mask.cpu().numpy())) for mask in masks]
    return torch.from_numpy(np.stack(outside)).to(masks.device) <= tolerance


def localisation_metrics() -> list[ExampleMetric]:
    """Returns the metrics of `segmentation_scores`: pixel accuracy, mean IoU and mean AP."""
    return [PixelAccuracy(), MeanIoU(), MeanAP()]
