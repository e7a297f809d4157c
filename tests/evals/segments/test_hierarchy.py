"""Which region lies in which."""

import numpy as np

from attnchain_evals.segments.hierarchy import nesting


def test_parents_and_shares() -> None:
    coarse = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    nested = np.array([[1, 1, 2, 2, 3, 3, 3, 3]])
    across = np.array([[1, 1, 1, 3, 3, 3, 3, 4]])
    first, second = nesting([coarse, nested, across])
    assert first.parents.tolist() == [1, 1, 2]
    assert first.shares.tolist() == [1, 1, 1]
    assert second.parents.tolist() == [1, 0, 3, 3]
    assert second.shares.tolist() == [2 / 3, 0, 3 / 4, 1]
