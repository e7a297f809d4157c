"""The covering of human segmentations by segments."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_evals.metrics.partition_scores import check_partitions


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
    check_partitions(segments, segmentations)
    return torch.stack([_covering(each, segments) for each in segmentations])


def _covering(regions: Tensor, segments: Tensor) -> Tensor:
    from sklearn.metrics.cluster import contingency_matrix

    both = torch.from_numpy(contingency_matrix(regions.flatten().cpu(), segments.flatten().cpu())).double()
    area = both.sum(1)
    union = area[:, None] + both.sum(0) - both
    return (area * (both / union).amax(1)).sum() / area.sum()
