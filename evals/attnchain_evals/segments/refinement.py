"""From shares of patches to labels of pixels: interpolated, drawn to the edges of the photograph, and in connected pieces."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

SMALLEST: Final = 0.005
"""The share of the pixels below which a connected piece goes to its neighbours. Chosen on photographs of BSDS500 val."""
_PIXELS: Final = 480 * 320  # at which superpixels are sought: those of BSDS500, on which their size was chosen


def interpolated(shares: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns shares (segment, row, column) enlarged bilinearly to (segment, height, width)."""
    return F.interpolate(torch.from_numpy(shares)[None], [*size], mode="bilinear")[0].numpy()


def superpixels(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the superpixels (row, column) of an image (height, width, 3), which have its edges; patches have not.

    They are those of Felzenszwalb & Huttenlocher (scikit-image), in the photograph at the size of those of BSDS500.
    """
    from PIL import Image
    from skimage.segmentation import felzenszwalb

    height, width, _ = image.shape
    scale = min(1, (_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return felzenszwalb(small, scale=60, sigma=0.8, min_size=60)


def refined(shares: NDArray[np.float32], pieces: NDArray[np.int64], size: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns the segment (height, width) with the greatest mean share in the superpixel of each pixel.

    Args:
        shares: (segment, row, column) of patches.
        pieces: the `superpixels` of the image.
        size: (height, width) of the image.
    """
    from PIL import Image

    flat, numbers = interpolated(shares, pieces.shape).reshape(len(shares), -1), pieces.ravel()
    sums = np.stack([np.bincount(numbers, share) for share in flat])
    labels = Image.fromarray(sums.argmax(0)[pieces].astype(np.uint8))
    return np.asarray(labels.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(np.int64)


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
