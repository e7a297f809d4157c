"""Localisation: does the attribution lie on the object? Accuracy, mean IoU and AP as Chefer et al. define them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError


def segmentation_scores(attributions: Tensor, masks: Tensor) -> dict[str, float]:
    """Pixel accuracy, mean IoU and mean AP over the batch: {"acc", "miou", "map"}, each in [0, 1].

    Maps are enlarged bilinearly to the masks and scaled to [0, 1] by their least and greatest value. A pixel counts as
    foreground above the map's own mean. "acc" pools pixels over the batch; "miou" is the mean of the IoU of background
    and foreground, each of pooled intersection and union; "map" is the mean over images of the average precision of the
    two channels [1 − map, map] against [background, foreground].

    Args:
        attributions: (batch, rows, columns).
        masks: (batch, height, width) bool, true on the object.

    Raises:
        AttentionError: shapes that do not fit, NaN attributions, or a mask that is empty or full.

    Source: Chefer, Gur & Wolf, *Transformer Interpretability Beyond Attention Visualization*, CVPR 2021, and its code.
    """
    return {name: float(value) for name, value in pooled(segmentation_counts(attributions, masks).mean(0)).items()}


def segmentation_counts(attributions: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """What `pooled` needs of each example (batch, 6).

    The columns are: correct pixels, background intersection, background union, foreground intersection, foreground union
    (all divided by the number of pixels), average precision.

    Raises:
        AttentionError: as `segmentation_scores`.
    """
    from sklearn.metrics import average_precision_score

    if attributions.ndim != 3 or masks.ndim != 3 or len(attributions) != len(masks):
        raise AttentionError(
            f"attributions {tuple(attributions.shape)} and masks {tuple(masks.shape)} do not fit; they must be (batch, rows,"
            " columns) and (batch, height, width)."
        )
    if bool(attributions.isnan().any()):
        raise AttentionError(f"{int(attributions.isnan().flatten(1).any(1).sum())} attributions hold NaN; leave these out.")
    truth = masks.bool().cpu()
    if bool((truth.flatten(1).all(1) | ~truth.flatten(1).any(1)).any()):
        raise AttentionError("a mask is empty or full; localisation needs both an object and a background.")
    maps = F.interpolate(attributions[:, None].float().cpu(), truth.shape[-2:], mode="bilinear")[:, 0]
    low, high = maps.flatten(1).aminmax(dim=1)
    maps = (maps - low[:, None, None]) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)[:, None, None]
    found = maps > maps.mean((1, 2), keepdim=True)

    def share(where: Tensor) -> Tensor:
        return where.double().mean((1, 2))

    channels = torch.stack([1 - maps, maps], 1).flatten(1).numpy()
    labels = torch.stack([~truth, truth], 1).flatten(1).numpy()
    precision = [average_precision_score(label, channel) for label, channel in zip(labels, channels, strict=True)]
    columns = [
        share(found == truth),
        share(~found & ~truth),
        share(~found | ~truth),
        share(found & truth),
        share(found | truth),
        torch.tensor(precision, dtype=torch.float64),
    ]
    return torch.stack(columns, 1).numpy()


def pooled(means: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The "acc", "miou" and "map" (…) of the means over examples (6, …) of `segmentation_counts`."""
    acc, back, back_union, front, front_union, precision = means
    return {"acc": acc, "miou": (back / back_union + front / front_union) / 2, "map": precision}
