"""Regions at several scales: two, three, … of them, and which lies in which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Nesting(NamedTuple):
    """How the regions of one scale lie in those of the coarser scale before.

    Attributes:
        parents: (region,) the number of the coarser region that holds most of each, from 1.
        shares: (region,) the share of its pixels that lie there; 1 where it nests.
    """

    parents: NDArray[np.int64]
    shares: NDArray[np.float64]


def nesting(scales: Sequence[NDArray[np.int64]]) -> list[Nesting]:
    """Returns the nesting of each scale but the first.

    Args:
        scales: labels (height, width) from 1, the coarsest first. A number that no pixel has is nobody's parent, and has the
            parent 0 and the share 0.

    >>> nesting([np.array([[1, 1, 2]]), np.array([[1, 2, 3]])])[0].parents.tolist()
    [1, 1, 2]
    """
    found = []
    for coarse, fine in pairwise(scales):
        pixels = np.zeros((fine.max() + 1, coarse.max() + 1))
        np.add.at(pixels, (fine.ravel(), coarse.ravel()), 1)
        inside, areas = pixels[1:].max(1), pixels[1:].sum(1)
        parents = np.where(areas > 0, pixels[1:].argmax(1), 0)
        found.append(Nesting(parents, inside / np.maximum(areas, 1)))
    return found
