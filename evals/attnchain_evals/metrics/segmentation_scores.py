"""Localisation: does the attribution lie on the object? Accuracy, mean IoU and AP as defined by Chefer et al."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.metrics.segment_matching import acc_and_miou, counts
from attnchain_interp import AttentionError

FOREGROUND_THRESHOLD: Final = 1.0
"""A pixel counts as foreground where its map exceeds this many times the map's own mean."""


def segmentation_scores(attributions: Tensor, masks: Tensor) -> dict[str, float]:
    """Returns pixel accuracy, mean IoU and mean AP over the batch: {"acc", "miou", "map"}, each in [0, 1].

    Maps are enlarged bilinearly to the masks and scaled to [0, 1] by their least and greatest value. A pixel counts as
    foreground above the map's own mean (`FOREGROUND_THRESHOLD`). "acc" pools pixels over the batch. "miou" is the mean of the
    IoU of background and foreground, each from pooled intersection and union. "map" is the mean over images of the average
    precision of the two channels [1 − map, map] against [background, foreground].

    Args:
        attributions: (batch, rows, columns).
        masks: (batch, height, width) bool, true on the object.

    Raises:
        AttentionError: shapes that do not fit, attributions with NaN, or a mask that is empty or full.

    Source: Chefer, Gur & Wolf, *Transformer Interpretability Beyond Attention Visualization*, CVPR 2021, and its code.
    """
    means = segmentation_counts(attributions, masks).mean(0)
    acc, miou = acc_and_miou(means[:5])
    return {"acc": float(acc), "miou": float(miou), "map": float(means[5])}


def segmentation_counts(attributions: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Returns the pixel counts of each example (see `counts`) and its average precision: (batch, 6)."""
    from sklearn.metrics import average_precision_score

    if attributions.ndim != 3 or masks.ndim != 3 or len(attributions) != len(masks):
        raise AttentionError(
            f"attributions {tuple(attributions.shape)} and masks {tuple(masks.shape)} do not fit.",
            "Pass attributions (batch, rows, columns) and masks (batch, height, width).",
        )
    if bool(attributions.isnan().any()):
        bad = int(attributions.isnan().flatten(1).any(1).sum())
        raise AttentionError(f"{bad} attributions hold NaN.", "Leave these examples out.")
    truth = masks.bool().cpu()
    if bool((truth.flatten(1).all(1) | ~truth.flatten(1).any(1)).any()):
        raise AttentionError(
            "a mask is empty or full; localisation needs both an object and a background.", "Leave these examples out."
        )
    maps = F.interpolate(attributions[:, None].float().cpu(), truth.shape[-2:], mode="bilinear")[:, 0]
    low, high = maps.flatten(1).aminmax(dim=1)
    maps = (maps - low[:, None, None]) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)[:, None, None]
    found = maps > FOREGROUND_THRESHOLD * maps.mean((1, 2), keepdim=True)
    channels = torch.stack([1 - maps, maps], 1).flatten(1).numpy()
    labels = torch.stack([~truth, truth], 1).flatten(1).numpy()
    precision = [average_precision_score(label, channel) for label, channel in zip(labels, channels, strict=True)]
    return np.column_stack([counts(found.long(), truth), precision])
