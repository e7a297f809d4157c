"""Localisation: does the attribution lie on the object? Accuracy, mean IoU and AP as defined by Chefer et al."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.perturbation.patches import enlarged, patches_in
from attnchain_interp import AttentionError, AttentionStore
from attnchain_interp.checks import check_tensor, check_type

FOREGROUND_THRESHOLD: Final = 1.0
"""A pixel counts as foreground where its map exceeds this many times the map's own mean."""


def segmentation_scores(attributions: Tensor, masks: Tensor, read: AttentionStore | None = None) -> dict[str, float]:
    """Returns pixel accuracy, mean IoU and mean AP over the batch: {"acc", "miou", "map"}, each in [0, 1].

    Maps are enlarged bilinearly to the masks and scaled to [0, 1] by their least and greatest value. A pixel counts as
    foreground above the map's own mean (`FOREGROUND_THRESHOLD`). "acc" pools pixels over the batch. "miou" is the mean of the
    IoU of background and foreground, each from pooled intersection and union. "map" is the mean over images of the average
    precision of the two channels [1 − map, map] against [background, foreground].

    Args:
        attributions: (batch, rows, columns).
        masks: (batch, height, width) bool, true on the object.
        read: a store of the images, where patches do not divide them: its patches cover a part. None is the whole images.

    Raises:
        AttentionError: shapes that do not fit, attributions with NaN or infinity, or a mask that is empty or full.

    Source: Chefer, Gur & Wolf, *Transformer Interpretability Beyond Attention Visualization*, CVPR 2021, and its code.
    """
    means = segmentation_counts(attributions, masks, read).mean(0)
    acc, miou = acc_and_miou(means[:5])
    return {"acc": float(acc), "miou": float(miou), "map": float(means[5])}


def segmentation_counts(attributions: Tensor, masks: Tensor, read: AttentionStore | None = None) -> NDArray[np.float64]:
    """Returns the pixel counts of each example (see `counts`) and its average precision: (batch, 6)."""
    maps, truth = scaled(attributions, masks, read)
    return np.column_stack([foreground_counts(maps, truth), average_precisions(maps, truth)])


def scaled(attributions: Tensor, masks: Tensor, read: AttentionStore | None = None) -> tuple[Tensor, Tensor]:
    """Returns the maps, enlarged to the masks and scaled to [0, 1], and the masks: both (batch, height, width), on the CPU."""
    check_tensor("attributions", attributions, "(batch, rows, columns)")
    objects = objects_of(masks)
    if attributions.ndim != 3 or masks.ndim != 3 or len(attributions) != len(masks):
        raise AttentionError(
            f"attributions {tuple(attributions.shape)} and masks {tuple(masks.shape)} do not fit.",
            "Pass attributions (batch, rows, columns) and masks (batch, height, width).",
        )
    if not bool(attributions.isfinite().all()):
        bad = int((~attributions.isfinite()).flatten(1).any(1).sum())
        raise AttentionError(f"{bad} attributions hold NaN or infinity.", "Leave these examples out.")
    truth = objects.cpu()
    if bool((truth.flatten(1).all(1) | ~truth.flatten(1).any(1)).any()):
        raise AttentionError(
            "a mask is empty or full; localisation needs both an object and a background.", "Leave these examples out."
        )
    if read is not None:
        check_type("read", read, AttentionStore, "Pass the store of the images, or leave read out.")
    size = (truth.shape[1], truth.shape[2])
    maps = enlarged(attributions.cpu(), size, None if read is None else patches_in(read, size)).float()
    low, high = maps.flatten(1).aminmax(dim=1)
    return (maps - low[:, None, None]) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)[:, None, None], truth


def objects_of(masks: Tensor) -> Tensor:
    """Returns masks as bool, true on the object. A mask of numbers is 0 beside it and one other number on it.

    >>> objects_of(torch.tensor([[[0, 255]]]))
    tensor([[[False,  True]]])
    """
    check_tensor("masks", masks, "(batch, height, width)")
    if masks.dtype == torch.bool:
        return masks
    for number, mask in enumerate(masks):
        there = mask[mask.bool()]
        if bool(there.isnan().any()):
            raise AttentionError(f"masks[{number}] holds NaN.", "Pass masks that are true on the object.")
        if len(there) and bool((there != there[0]).any()):
            other = there[there != there[0]][0]
            raise AttentionError(
                f"masks[{number}] holds 0, {there[0].item():g}, {other.item():g} …, so it is not known where the object is.",
                "Pass masks that are true on the object: masks > 0.5, or masks == the number of its class.",
            )
    return masks.bool()


def foreground_counts(maps: Tensor, truth: Tensor) -> NDArray[np.float64]:
    """Returns `counts` of the pixels above the mean of their map: (batch, 5). `scaled` gives both arguments."""
    return counts((maps > FOREGROUND_THRESHOLD * maps.mean((1, 2), keepdim=True)).long(), truth)


def average_precisions(maps: Tensor, truth: Tensor) -> NDArray[np.float64]:
    """Returns the average precision of [1 − map, map] of each example: (batch,). `scaled` gives both arguments."""
    from sklearn.metrics import average_precision_score

    channels = torch.stack([1 - maps, maps], 1).flatten(1).numpy()
    labels = torch.stack([~truth, truth], 1).flatten(1).numpy()
    return np.array([average_precision_score(label, channel) for label, channel in zip(labels, channels, strict=True)])


UNMATCHED = -1


def matched(segments: Tensor, masks: Tensor) -> Tensor:
    """Returns each pixel as object (1), background (0) or neither (−1): (batch, height, width).

    In each image one segment is matched with the object and another one with the background, so that the most pixels are right
    (the Hungarian method). Pixels of further segments are always wrong.

    Args:
        segments: (batch, rows, columns), the number of each cell's segment, enlarged by nearest neighbour.
        masks: (batch, height, width) bool, true on the object.
    """
    large = F.interpolate(segments[:, None].float(), masks.shape[-2:], mode="nearest")[:, 0].long()
    found = torch.full_like(large, UNMATCHED)
    for numbers, mask, out in zip(large, masks, found, strict=True):
        regions = torch.stack([numbers == number for number in numbers.unique()])
        agreement = torch.stack([(regions & ~mask).sum((1, 2)), (regions & mask).sum((1, 2))], 1)
        for region, side in zip(*linear_sum_assignment(agreement.numpy(), maximize=True), strict=True):
            out[regions[region]] = int(side)
    return found


def above(maps: Tensor, threshold: float, masks: Tensor) -> Tensor:
    """Returns 1 where maps (batch, rows, columns), enlarged bilinearly to the masks, exceed threshold × their mean, else 0."""
    large = enlarged(maps, masks.shape[-2:]).double()
    return (large > threshold * large.mean((1, 2), keepdim=True)).long()


def counts(found: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Returns the pixel counts of each example, divided by the number of pixels: (batch, 5).

    The columns are correct pixels, background intersection, background union, object intersection, object union.

    Args:
        found: (batch, height, width), 1 on the object, 0 on the background.
        masks: (batch, height, width) bool, true on the object.
    """
    columns = [found == masks.long()]
    for side, truth in ((0, ~masks), (1, masks)):
        columns += [(found == side) & truth, (found == side) | truth]
    return torch.stack([column.double().mean((1, 2)) for column in columns], 1).numpy()


def acc_and_miou(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns accuracy and mean IoU of pooled pixels (…), given the means over examples (5, …) of `counts`."""
    return means[0], mean_iou(means[1:])


def mean_iou(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of the IoU of background and object (…), given the means of the last four columns of `counts`."""
    back, back_union, front, front_union = means
    return (back / back_union + front / front_union) / 2
