"""The object: where walks lead to what the class token looks at."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.segments.refinement import WHOLE, Share, interpolated
from attnchain_interp import AttentionError, AttentionStore, MultiBounce, Role

STEPS: Final = 2
"""Steps of a patch's walk. Chosen on photographs of ECSSD's validation part."""


def object_scores(store: AttentionStore, steps: int = STEPS) -> Tensor:
    """Returns how much each patch belongs to the object (token,), of a store of the last layers of one image.

    One bounce from the class token, in the balanced chain of the last layer, scores the patches. A patch then has the mean
    score of those to which a walk from it leads, in `steps` steps of the balanced chain of all layers of the store.

    Raises:
        AttentionError: the model has no class token.
    """
    if not bool((store.tokens.roles == Role.CLASS).any()):
        raise AttentionError("the model has no class token, from which the object is sought.", "Give a point or a box.")
    scores = MultiBounce(layers=-1, balanced=True, start="class").score(store)[:, None]
    walk = store.chain(balanced=True).transitions
    for _ in range(steps):
        scores = walk.right(scores)
    return scores[0, 0]


def otsu(scores: NDArray[np.float32], size: tuple[int, int], covered: Share = WHOLE) -> float:
    """Returns the threshold that parts scores (row, column), enlarged to (height, width) pixels, into two kinds.

    `covered` is that of `interpolated`.

    Source: Otsu 1979 (scikit-image).
    """
    from skimage.filters import threshold_otsu

    enlarged = interpolated(scores[None], size, covered)[0].astype(np.float64)  # 256 steps between near-equal scores
    return float(threshold_otsu(enlarged))


def two_sided(scores: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Returns shares (2, row, column) of background and object: equal where scores (row, column) are at the threshold.

    >>> two_sided(np.array([[1.0, 3.0]]), 1.0).tolist()
    [[[0.5, 0.25]], [[0.5, 0.75]]]
    """
    share = scores / (scores + threshold)
    return np.stack([1 - share, share]).astype(np.float32)
