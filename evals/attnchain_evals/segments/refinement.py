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


def interpolated(shares: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns shares (segment, row, column) enlarged bilinearly to (segment, height, width)."""
    return F.interpolate(torch.from_numpy(shares)[None], size, mode="bilinear")[0].numpy()


def refined(shares: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the segment (height, width) with the greatest mean share in the superpixel of each pixel.

    The superpixels are those of Felzenszwalb & Huttenlocher (scikit-image), in the photograph at the size of those of BSDS500.
    They have its edges, which patches have not.

    Args:
        shares: (segment, row, column).
        image: (height, width, 3) uint8.
    """
    from PIL import Image
    from skimage.segmentation import felzenszwalb

    height, width, _ = image.shape
    scale = min(1, (_PIXELS / (height * width)) ** 0.5)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    superpixels = felzenszwalb(
        np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX)), scale=60, sigma=0.8, min_size=60
    ).ravel()
    flat = interpolated(shares, (rows, columns)).reshape(len(shares), -1)
    sums = np.stack([np.bincount(superpixels, share) for share in flat])
    labels = sums.argmax(0)[superpixels].reshape(rows, columns).astype(np.uint8)
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)).astype(np.int64)


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
