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
    found = []
    for both in shared_pixels(segments, segmentations):
        n, squares = both.sum(), (both**2).sum()
        joined = (both.sum(0) ** 2).sum() + (both.sum(1) ** 2).sum() - 2 * squares
        found.append(1 - joined / (n * (n - 1)))
    return torch.stack(found)


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
    return torch.stack(
        [2 * _entropy(both) - _entropy(both.sum(0)) - _entropy(both.sum(1)) for both in shared_pixels(segments, segmentations)]
    )


def shared_pixels(segments: Tensor, segmentations: Tensor) -> list[Tensor]:
    """Returns the number of pixels of each pair of region and segment, (region, segment) for each person.

    Raises:
        AttentionError: shapes that do not fit.
    """
    if segments.ndim != 2 or segmentations.ndim != 3 or segmentations.shape[1:] != segments.shape:
        raise AttentionError(
            f"segments {tuple(segments.shape)} and segmentations {tuple(segmentations.shape)} do not fit.",
            "Pass segments (height, width) and segmentations (person, height, width) of the same pixels.",
        )
    own = segments.flatten().unique(return_inverse=True)[1]
    count, tables = int(own.max()) + 1, []
    for each in segmentations:
        regions = each.flatten().unique(return_inverse=True)[1]
        rows = int(regions.max()) + 1
        tables.append(torch.bincount(regions * count + own, minlength=rows * count).view(rows, count).double())
    return tables


def _entropy(counts: Tensor) -> Tensor:
    shares = counts.flatten() / counts.sum()
    return -torch.xlogy(shares, shares).sum() / torch.log(torch.tensor(2.0, dtype=torch.float64))
