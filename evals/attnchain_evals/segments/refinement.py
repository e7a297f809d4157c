"""From shares of patches to labels of pixels: interpolated, drawn to the edges of the photograph, and in connected pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from attnchain_evals.perturbation.patches import fitted

SMALLEST: Final = 0.005
"""The share of the pixels below which a connected piece goes to its neighbours. Chosen on photographs of BSDS500 val."""
REGION_SCALES: Final = (15, 30, 60, 120, 240, 480, 960)
"""Scales of the superpixels of regions, each twice the last. Chosen on photographs of BSDS500 val."""
OBJECT_SCALES: Final = (30, 60, 150)
"""Those of one segment before a background. Chosen on photographs of ECSSD's validation part."""
Share = tuple[float, float]
"""The shares of a photograph's height and width that the patches of a model cover, from the upper left."""
WHOLE: Final = (1.0, 1.0)
_PIXELS: Final = 480 * 320  # at which labels are made, at most: those of BSDS500, on which superpixels were chosen


def working_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Returns the (row, column) numbers at which labels are made, for an image of size (height, width, …)."""
    height, width = size[:2]
    scale = min(1, (_PIXELS / (height * width)) ** 0.5)
    return max(1, round(height * scale)), max(1, round(width * scale))


def interpolated(shares: NDArray[np.float32], size: tuple[int, ...], covered: Share = WHOLE) -> NDArray[np.float32]:
    """Returns shares (segment, row, column) enlarged bilinearly to (segment, height, width).

    Args:
        shares: of patches.
        size: height and width.
        covered: the shares of both that the patches cover. Behind them the nearest pixels are continued.
    """
    extent = [max(1, round(length * share)) for length, share in zip(size, covered, strict=True)]
    return fitted(F.interpolate(torch.from_numpy(shares)[None], extent, mode="bilinear")[0], size).numpy()


def superpixels(image: NDArray[np.uint8], scale: int) -> NDArray[np.int64]:
    """Returns the superpixels of an image (height, width, 3) at its working size: they have its edges, and patches have not.

    They are those of Felzenszwalb & Huttenlocher (scikit-image); the scale is the least number of pixels, and of their size.
    """
    from PIL import Image
    from skimage.segmentation import felzenszwalb

    rows, columns = working_size(image.shape)
    small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX)
    return felzenszwalb(np.asarray(small), scale=scale, sigma=0.8, min_size=scale)


def refined(shares: NDArray[np.float32], scales: Sequence[NDArray[np.int64]], covered: Share = WHOLE) -> NDArray[np.float64]:
    """Returns shares (segment, height, width) that follow the edges of an image.

    A pixel has the mean share of its superpixel, and of several scales the mean.

    Args:
        shares: (segment, row, column) of patches.
        scales: `superpixels` of the image, of one scale or several.
        covered: see `interpolated`.
    """
    flat = interpolated(shares, scales[0].shape, covered).reshape(len(shares), -1)
    found = np.zeros((len(shares), *scales[0].shape))
    for pieces in scales:
        numbers = pieces.ravel()
        means = np.stack([np.bincount(numbers, share) for share in flat]) / np.bincount(numbers)
        found += means[:, pieces]
    return found / len(scales)


def enlarged(labels: NDArray[np.int64], size: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns labels of the working size at (height, width, …)."""
    from PIL import Image

    small = Image.fromarray(labels.astype(np.int32))
    return np.asarray(small.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(np.int64)


def connected(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the connected pieces of labels (height, width), numbered from 0 in falling order of area.

    Pieces of less than `SMALLEST` of the pixels take the piece of the nearest pixel, unless all are.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import label

    pieces: NDArray[np.int64] = np.asarray(label(labels + 1 - labels.min(), connectivity=1), np.int64) - 1
    small = np.bincount(pieces.ravel()) < SMALLEST * labels.size
    if small.any() and not small.all():
        nearest: Any = distance_transform_edt(small[pieces], return_distances=False, return_indices=True)
        pieces = pieces[tuple(nearest)]
    _, numbers, areas = np.unique(pieces, return_inverse=True, return_counts=True)
    rank = np.empty(len(areas), np.int64)
    rank[np.argsort(-areas, kind="stable")] = np.arange(len(areas))
    return rank[numbers].reshape(labels.shape)


class Painter:
    """Labels the pixels of one image by shares of patches.

    Args:
        image: (height, width, 3) uint8.
        refine: draw boundaries along `superpixels`.
        pieces: cut labels into connected pieces.
        scales: of the superpixels.
        covered: see `interpolated`.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        refine: bool,
        pieces: bool = False,
        scales: Sequence[int] = REGION_SCALES,
        covered: Share = WHOLE,
    ) -> None:
        self._size, self._pieces, self._covered = image.shape, pieces, covered
        self._edges = [superpixels(image, scale) for scale in scales] if refine else None

    def labels(self, shares: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the labels (height, width) of shares (segment, row, column), from 0."""
        return self._whole(self.soft(shares).argmax(0))

    def soft(self, shares: NDArray[np.float32]) -> NDArray[Any]:
        """Returns shares (segment, row, column) at the working size: along superpixels, or interpolated."""
        if self._edges is None:
            return interpolated(shares, working_size(self._size), self._covered)
        return refined(shares, self._edges, self._covered)

    def unrefined(self, shares: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the labels of interpolated shares, without regard to edges."""
        return self._whole(interpolated(shares, working_size(self._size), self._covered).argmax(0))

    def _whole(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return enlarged(connected(labels) if self._pieces else labels, self._size)
