"""Segments of images against their masks: Hungarian matching, thresholds, counts of pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

UNMATCHED = -1


def matched(segments: Tensor, masks: Tensor) -> Tensor:
    """Returns each pixel as object (1), background (0) or neither (−1): (batch, height, width).

    In each image one segment is matched with the object and another one with the background, so that the most pixels are right
    (the Hungarian method). Pixels of further segments are always wrong.

    Args:
        segments: (batch, rows, columns), the number of each cell's segment, enlarged by nearest neighbour.
        masks: (batch, height, width) bool, true on the object.
    """
    enlarged = F.interpolate(segments[:, None].float(), masks.shape[-2:], mode="nearest")[:, 0].long()
    found = torch.full_like(enlarged, UNMATCHED)
    for numbers, mask, out in zip(enlarged, masks, found, strict=True):
        regions = torch.stack([numbers == number for number in numbers.unique()])
        agreement = torch.stack([(regions & ~mask).sum((1, 2)), (regions & mask).sum((1, 2))], 1)
        for region, side in zip(*linear_sum_assignment(agreement.numpy(), maximize=True), strict=True):
            out[regions[region]] = int(side)
    return found


def above(maps: Tensor, threshold: float, masks: Tensor) -> Tensor:
    """Returns 1 where maps (batch, rows, columns), enlarged bilinearly to the masks, exceed threshold × their mean, else 0."""
    enlarged = F.interpolate(maps[:, None].float(), masks.shape[-2:], mode="bilinear")[:, 0]
    return (enlarged > threshold * enlarged.mean((1, 2), keepdim=True)).long()


def counts(found: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Returns the pixel counts of each example, divided by the number of pixels: (batch, 5).

    The columns are correct pixels, background intersection, background union, object intersection, object union.

    Args:
        found: (batch, height, width), 1 on the object, 0 on the background.
        masks: (batch, height, width) bool, true on the object.
    """
    columns = [found == masks.long()]
    for side, truth in ((0, ~masks), (1, masks)):
        columns += [(found == side) & truth, (found == side) | truth]
    return torch.stack([column.double().mean((1, 2)) for column in columns], 1).numpy()


def acc_and_miou(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns accuracy and mean IoU of pooled pixels (…), given the means over examples (5, …) of `counts`."""
    return means[0], mean_iou(means[1:])


def mean_iou(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of the IoU of background and object (…), given the means of the last four columns of `counts`."""
    back, back_union, front, front_union = means
    return (back / back_union + front / front_union) / 2
