"""How well the boundaries of segments match those that people drew, as the benchmark of BSDS500 counts them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.metrics.partition_scores import check_partitions

NEAR: Final = 0.0075
"""The distance within which boundary pixels match, as a share of the image's diagonal: that of the benchmark."""


def boundary_counts(segments: Tensor, segmentations: Tensor) -> Tensor:
    """Returns counts of boundary pixels: (4,) own that match, own, people's that match, people's.

    A pixel is on a boundary if the pixel below, the one to the right or the one below to the right is of another segment. Own
    boundaries are thinned. Pixels are matched one to one, as many as possible, within `NEAR` of the diagonal. An own pixel
    counts as matched if some person's boundary matches it. People's pixels are summed over people.

    `boundary_f` makes the F-measure of the benchmark of counts summed over photographs. The benchmark takes a matching of the
    least distance. Here it is any of the most pairs: other pixels may match, but as many for each person.

    Args:
        segments: (height, width) the number of each pixel's segment.
        segmentations: (person, height, width) the number of each pixel's region.

    Raises:
        AttentionError: shapes that do not fit.

    Source: Martin, Fowlkes & Malik, TPAMI 2004; Arbeláez, Maire, Fowlkes & Malik, TPAMI 2011.

    >>> boundary_counts(torch.tensor([[0, 0, 1]] * 9), torch.tensor([[[0, 0, 1]] * 9, [[0, 0, 0]] * 9])).tolist()
    [9.0, 9.0, 9.0, 9.0]
    """
    from skimage.morphology import thin

    check_partitions(segments, segmentations)
    own = np.asarray(thin(boundary(segments.cpu().numpy())), bool)
    drawn = [boundary(each.cpu().numpy()) for each in segmentations]
    pairs = [matches(own, each) for each in drawn]
    matched = np.any(pairs, axis=0).sum()
    counts = [matched, own.sum(), np.sum(pairs), np.sum(drawn)]
    return torch.tensor([float(count) for count in counts], dtype=torch.float64, device="cpu")


def boundary_f(counts: Any) -> float:
    """Returns the harmonic mean of precision and recall of `boundary_counts`, which may be summed over photographs.

    >>> boundary_f([8, 10, 6, 10])
    0.6857142857142857
    """
    found, own, recalled, drawn = (float(count) for count in counts)
    precision, recall = found / max(own, 1), recalled / max(drawn, 1)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def boundary(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns the pixels (height, width) that differ from the one below, to the right, or below to the right."""
    padded = np.pad(labels, ((0, 1), (0, 1)), mode="edge")
    return (padded[1:, :-1] != labels) | (padded[:-1, 1:] != labels) | (padded[1:, 1:] != labels)


def matches(own: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which pixels of `own` have a partner in `drawn`, in a matching of the most pairs."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    reach = NEAR * float(np.hypot(*own.shape))
    far = int(reach)
    numbers = np.full((own.shape[0] + 2 * far, own.shape[1] + 2 * far), -1)
    numbers[far : far + own.shape[0], far : far + own.shape[1]][drawn] = np.arange(drawn.sum())
    rows, columns = np.nonzero(own)
    steps = np.arange(-far, far + 1)
    down, right = (each.ravel() for each in np.meshgrid(steps, steps, indexing="ij"))
    near = down**2 + right**2 <= reach**2
    partners = numbers[rows[:, None] + far + down[near], columns[:, None] + far + right[near]]
    first, place = np.nonzero(partners >= 0)
    edges = csr_array((np.ones(len(first), bool), (first, partners[first, place])), shape=(len(rows), int(drawn.sum())))
    found = np.zeros_like(own)
    if edges.nnz:
        found[rows, columns] = maximum_bipartite_matching(edges, perm_type="column") >= 0
    return found
