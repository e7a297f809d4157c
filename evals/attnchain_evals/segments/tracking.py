"""Regions of one scene in several photographs: which is which."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.segments.refinement import interpolated
from attnchain_evals.segments.segments import Segments

_LEAST = 0.1  # overlap of two regions (intersection over union of shares) below which they are not the same


@final
class Tracker:
    """Gives a region the number that it had in the frame before.

    The regions of two frames are matched by the Hungarian method on the overlap Σ min(χ, χ') / Σ max(χ, χ') of their shares. A
    region that overlaps none gets a number that was not given before, and keeps it.
    """

    def __init__(self) -> None:
        self._shares: NDArray[np.float32] | None = None
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._given = 0

    def followed(self, found: Segments) -> Segments:
        """Returns the segments of the next frame, with numbers as before; `facts["numbers"]` has that of each region."""
        from scipy.optimize import linear_sum_assignment

        numbers = np.zeros(len(found.memberships), np.int64)
        if self._shares is not None:
            before = interpolated(self._shares, found.memberships.shape[1:])
            pairs = found.memberships[:, None], before[None]
            overlap = np.minimum(*pairs).sum((2, 3)) / np.maximum(*pairs).sum((2, 3))
            for new, old in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                numbers[new] = self._numbers[old] if overlap[new, old] >= _LEAST else 0
        fresh = numbers == 0
        numbers[fresh] = self._given + 1 + np.arange(fresh.sum())
        self._given = max(self._given, int(numbers.max()))
        self._shares, self._numbers = found.memberships, numbers
        facts = {**found.facts, "numbers": numbers.tolist()}
        return replace(found, labels=numbers[found.labels - 1], unrefined=numbers[found.unrefined - 1], facts=facts)
