"""How alike two partitions of an image's pixels are: the Rand index, and the variation of information."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp import AttentionError


def rand_index(segments: Tensor, segmentations: Tensor) -> Tensor:
    """Returns the share of pairs of pixels that both partitions join, or both part: (person,), from 0 to 1.

    The mean over people is the probabilistic Rand index.

    Args:
        segments: (height, width) the number of each pixel's segment.
        segmentations: (person, height, width) the number of each pixel's region.

    Raises:
        AttentionError: shapes that do not fit.

    Source: Unnikrishnan, Pantofaru & Hebert 2007.

    >>> rand_index(torch.tensor([[0, 0, 1]]), torch.tensor([[[0, 0, 1]], [[0, 1, 1]]]))
    tensor([1.0000, 0.3333], dtype=torch.float64)
    """
    from sklearn.metrics import rand_score

    check_partitions(segments, segmentations)
    own = segments.flatten().cpu()
    return torch.tensor([rand_score(each.flatten().cpu(), own) for each in segmentations], dtype=torch.float64, device="cpu")


def variation_of_information(segments: Tensor, segmentations: Tensor) -> Tensor:
    """Returns the information in bits that one partition lacks of the other, both ways: (person,), 0 where they are equal.

    Args:
        segments, segmentations: see `rand_index`.

    Raises:
        AttentionError: shapes that do not fit.

    Source: Meilă 2007.

    >>> variation_of_information(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[0, 1, 0, 1]]]))
    tensor([2.], dtype=torch.float64)
    """
    from skimage.metrics import variation_of_information as both_ways

    check_partitions(segments, segmentations)
    own = segments.cpu().numpy()
    found = [sum(both_ways(each.cpu().numpy(), own)) for each in segmentations]
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def check_partitions(segments: Tensor, segmentations: Tensor) -> None:
    """Checks that partitions are of the same pixels."""
    if segments.ndim != 2 or segmentations.ndim != 3 or segmentations.shape[1:] != segments.shape:
        raise AttentionError(
            f"segments {tuple(segments.shape)} and segmentations {tuple(segmentations.shape)} do not fit.",
            "Pass segments (height, width) and segmentations (person, height, width) of the same pixels.",
        )


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
