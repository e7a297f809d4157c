"""Label maps: the feature of each place of the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError


def label_map(features: Any, inputs: Tensor) -> Tensor:
    """Returns the feature of each pixel (batch, height, width), or of each token (batch, token).

    Args:
        features: the label map, of whole numbers from 0 without gaps, or a callable inputs → label map. −1 is a token that is
            never removed.
        inputs: images (batch, channel, height, width), or texts (batch, token).

    Raises:
        AttentionError: another type, shape or numbering, or an example without a feature.
    """
    check_features(features)
    labels = torch.as_tensor(features(inputs) if callable(features) else features, device=inputs.device)
    shape, least = (tuple(inputs.shape), -1) if inputs.ndim == 2 else ((len(inputs), *inputs.shape[-2:]), 0)
    if (
        tuple(labels.shape) != shape
        or labels.is_floating_point()
        or labels.dtype == torch.bool
        or bool((labels.long() < least).any())
    ):
        raise AttentionError(
            f"the label map is {tuple(labels.shape)} of {labels.dtype}; these inputs need {shape} of integers from {least}.",
            "Number the features of each example from 0.",
        )
    labels = labels.long()
    flat = labels.flatten(1)
    sizes = flat.amax(1) + 1
    there = torch.zeros(len(flat), int(sizes.max()) + 1, dtype=torch.bool, device=flat.device).scatter(1, flat + 1, True)
    if bool((sizes == 0).any()):
        raise AttentionError("an example has no feature: its labels are all −1.", "Leave the example out.")
    if bool((there[:, 1:].sum(1) < sizes).any()):
        raise AttentionError(
            "the label map has gaps; each number from 0 to an example's greatest is needed.", "Renumber the features."
        )
    return labels


def check_features(features: Any) -> None:
    """Refuses what names no features: another type than a name, a grid, a label map or a callable."""
    if not (isinstance(features, str | tuple | Tensor | np.ndarray) or callable(features)):
        raise AttentionError(
            f"features is {features!r}, of another type.", 'Pass features="word", (rows, columns), or a label map.'
        )
