"""Attributions as users have them: Captum's shapes, lists and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of

Reduction = Literal["sum", "absolute", "norm"]
"""How channels become one score: their sum, the sum of their absolute values, or their Euclidean norm."""


def scores_of(attributions: Any, inputs: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Returns one score for each place of the inputs: (batch, rows, columns) for images, (batch, token) for texts.

    Args:
        attributions: a tensor, an array, a list of those with one for each example, or Captum's tuple of one tensor. Scores of
            channels (batch, channel, rows, columns), or of embeddings (batch, token, width), are reduced.
        inputs: (batch, channel, height, width), or token numbers (batch, token).
        reduction: of channels and of the width of embeddings: "sum", "absolute" or "norm".
    """
    check_one_of("reduction", reduction, get_args(Reduction))
    scores, places = _tensor(attributions), 3 if inputs.ndim == 4 else 2
    if isinstance(attributions, list | tuple) and len(scores) == 1 and scores.ndim == places + 2:
        scores = scores[0]  # Captum answers a tuple of inputs with a tuple
    if scores.ndim != places + 1:
        return scores
    if places == 3 and _channels_last(tuple(scores.shape), tuple(inputs.shape)):
        raise AttentionError(
            f"attributions has shape {tuple(scores.shape)}, channels last, and images {tuple(inputs.shape)}.",
            "Pass attributions.permute(0, 3, 1, 2).",
        )
    axis = 1 if inputs.ndim == 4 else 2
    if reduction == "norm":
        return torch.linalg.vector_norm(scores, dim=axis)
    return (scores.abs() if reduction == "absolute" else scores).sum(axis)


def _channels_last(shape: Sequence[int], images: Sequence[int]) -> bool:
    usual, as_wide = (1, images[1]), shape[1] * images[3] == shape[2] * images[2]  # the proportions of the images
    return shape[3] in usual and shape[1] not in usual and shape[2] != shape[3] and as_wide


def _tensor(attributions: Any) -> Tensor:
    try:
        if isinstance(attributions, list | tuple) and any(isinstance(each, Tensor) for each in attributions):
            scores = torch.stack([torch.as_tensor(each) for each in attributions]).detach()
        else:
            scores = attributions.detach() if isinstance(attributions, Tensor) else torch.from_numpy(np.array(attributions))
        if scores.is_complex():
            raise TypeError(f"they are {scores.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        of_text = hasattr(attributions, "seq_attr")
        raise AttentionError(
            f"attributions are a {type(attributions).__name__} that is not an array of real numbers ({error}).",
            "Pass its scores: result.seq_attr[None]."
            if of_text
            else "Pass a tensor, an array, or a list with one of equal shape for each example.",
        ) from error
    return scores if scores.is_floating_point() else scores.double()
