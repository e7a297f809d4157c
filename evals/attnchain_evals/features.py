"""What is removed together: patches, pixels, superpixels, or any regions that a label map names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError

Features = Literal["patch", "pixel"] | Tensor | Callable[[Tensor], Tensor]
"""The cells of the attributions' own grid, pixels, a label map (batch, height, width), or what makes one of the images."""


class Ranked(NamedTuple):
    """Features of a batch, with their scores.

    Attributes:
        scores: (batch, feature); of no meaning from the example's own number of features on.
        labels: (batch, height, width) the feature of each pixel.
        sizes: (batch,) the number of features of each example.
    """

    scores: Tensor
    labels: Tensor
    sizes: Tensor

    @property
    def present(self) -> Tensor:
        """(batch, feature) bool: which features an example has."""
        return torch.arange(self.scores.shape[1], device=self.sizes.device) < self.sizes[:, None]

    def ranks(self, order: Literal["morf", "lerf"]) -> Tensor:
        """(batch, feature): the place of each feature in the order, equal scores by their number (in a grid: raster order)."""
        descending = order == "morf"
        scores = self.scores.masked_fill(~self.present, -torch.inf if descending else torch.inf)
        return scores.argsort(dim=1, descending=descending, stable=True).argsort(1)


def ranked(attributions: Tensor, images: Tensor, features: Features = "patch") -> Ranked:
    """The features of images (batch, channel, height, width) with the scores that attributions give them.

    Of "patch" each cell of the attributions is one feature, the nearest pixels belong to it. Of "pixel" the attributions are
    enlarged bilinearly. The score of a region of a label map is the mean over its pixels of the enlarged attributions.

    Args:
        attributions: (batch, rows, columns).
        images: (batch, channel, height, width).
        features: "patch", "pixel", a label map (batch, height, width) of integers, or a callable images → label map.

    Raises:
        AttentionError: shapes that do not fit, attributions that are not finite, or a label map with gaps.
    """
    if images.ndim != 4 or attributions.ndim != 3 or len(attributions) != len(images):
        raise AttentionError(
            f"attributions has shape {tuple(attributions.shape)} for {len(images)} inputs of shape {tuple(images.shape[1:])};"
            ' images are needed, and attributions (batch, rows, columns), one per patch: ask the method for output="grid".'
        )
    if not bool(attributions.isfinite().all()):
        bad = int((~attributions.isfinite()).flatten(1).any(1).sum())
        raise AttentionError(f"{bad} attributions hold NaN or infinity; leave these out.")
    size = images.shape[-2:]
    attributions = attributions.to(images.device)
    if isinstance(features, str):
        if features not in ("patch", "pixel"):
            raise AttentionError(f'features={features!r}; use "patch", "pixel", a label map or a callable images → label map.')
        cells = attributions if features == "patch" else enlarged(attributions, size)
        rows, columns = cells.shape[1:]
        if rows > size[0] or columns > size[1]:
            raise AttentionError(
                f"attributions of {rows} × {columns} cells are finer than images of {size[0]} × {size[1]} pixels."
            )
        numbers = torch.arange(rows * columns, dtype=torch.float64, device=images.device).view(1, 1, rows, columns)
        labels = F.interpolate(numbers, size)[0].long().expand(len(images), -1, -1)
        return Ranked(cells.flatten(1), labels, torch.full((len(images),), rows * columns, device=images.device))
    labels = features if isinstance(features, Tensor) else features(images)
    return _averaged(enlarged(attributions, size), _checked(labels.to(images.device), images))


def enlarged(attributions: Tensor, size: tuple[int, ...]) -> Tensor:
    """(batch, height, width): attributions (batch, rows, columns) enlarged bilinearly."""
    if tuple(attributions.shape[1:]) == tuple(size):
        return attributions
    return F.interpolate(attributions[:, None].float(), tuple(size), mode="bilinear")[:, 0]


@final
@dataclass(frozen=True)
class Superpixels:
    """Calling it turns images into label maps (batch, height, width) of SLIC superpixels, numbered from 0.

    Attributes:
        count: about how many per image; images differ.
        compactness: how much nearness counts against colour.

    Source: Achanta et al., *SLIC Superpixels*, TPAMI 2012, as scikit-image has it.
    """

    count: int = 50
    compactness: float = 10.0

    def __call__(self, images: Tensor) -> Tensor:
        from skimage.segmentation import slic

        maps = []
        for image in images.cpu().double().permute(0, 2, 3, 1).numpy():
            low, high = image.min(), image.max()
            scaled = (image - low) / max(high - low, np.finfo(float).tiny)  # SLIC's compactness is meant for colours in [0, 1]
            found = slic(
                scaled, self.count, self.compactness, start_label=0, convert2lab=image.shape[-1] == 3, channel_axis=-1
            )
            maps.append(np.unique(found, return_inverse=True)[1].reshape(found.shape))
        return torch.from_numpy(np.stack(maps)).to(images.device)


def _checked(labels: Tensor, images: Tensor) -> Tensor:
    shape = (len(images), *images.shape[-2:])
    if tuple(labels.shape) != shape or labels.is_floating_point() or labels.dtype == torch.bool or bool((labels < 0).any()):
        raise AttentionError(
            f"the label map is {tuple(labels.shape)} of {labels.dtype}; these images need {shape} of integers from 0 on."
        )
    return labels.long()


def _averaged(attributions: Tensor, labels: Tensor) -> Ranked:
    sizes = labels.flatten(1).amax(1) + 1
    zeros = attributions.new_zeros(len(labels), int(sizes.max()), dtype=torch.float64)
    flat = labels.flatten(1)
    areas = zeros.scatter_add(1, flat, torch.ones_like(flat, dtype=torch.float64))
    found = Ranked(zeros.scatter_add(1, flat, attributions.flatten(1).double()) / areas.clamp_min(1), labels, sizes)
    if bool((found.present & (areas == 0)).any()):
        raise AttentionError("the label map has gaps: every number from 0 to an example's greatest must have a pixel.")
    return found
