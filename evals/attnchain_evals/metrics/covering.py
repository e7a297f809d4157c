"""The covering of human segmentations by segments."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp import AttentionError


def covering(segments: Tensor, segmentations: Tensor) -> Tensor:
    """Returns how well segments cover the segmentations of people: (person,), from 0 to 1.

    It is the mean over the regions of a person, weighted by their areas, of the greatest intersection over union that a
    segment has with the region. The mean over people is the figure that is usually reported.

    Args:
        segments: (height, width) the number of each pixel's segment.
        segmentations: (person, height, width) the number of each pixel's region.

    Raises:
        AttentionError: shapes that do not fit.

    Source: Arbeláez, Maire, Fowlkes & Malik, *Contour Detection and Hierarchical Image Segmentation*, TPAMI 2011.

    >>> covering(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[5, 5, 5, 5]], [[0, 0, 1, 1]]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    if segments.ndim != 2 or segmentations.ndim != 3 or segmentations.shape[1:] != segments.shape:
        raise AttentionError(
            f"segments {tuple(segments.shape)} and segmentations {tuple(segmentations.shape)} do not fit.",
            "Pass segments (height, width) and segmentations (person, height, width) of the same pixels.",
        )
    own = segments.flatten().unique(return_inverse=True)[1]
    return torch.stack([_covering(own, regions.flatten().unique(return_inverse=True)[1]) for regions in segmentations])


def _covering(own: Tensor, regions: Tensor) -> Tensor:
    count, rows = int(own.max()) + 1, int(regions.max()) + 1
    both = torch.bincount(regions * count + own, minlength=rows * count).view(rows, count).double()
    area = both.sum(1)
    union = area[:, None] + both.sum(0) - both
    return (area * (both / union).amax(1)).sum() / area.sum()
