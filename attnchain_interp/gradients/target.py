"""The score of a target: which number of a model's output is to be explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum._utils.common import _select_targets
from captum._utils.typing import TargetType
from torch import Tensor

from attnchain_interp.errors import AttentionError

Target = TargetType | Callable[[Any], Tensor]

_FUNCTION = "target=lambda output: …, which gives one score per example"


def selected_score(output: Any, target: Target, batch: int) -> Tensor:
    """The score of each example (batch,): what Captum selects of the logits, or what a function makes of the output.

    Args:
        output: logits (batch, …), or an output of transformers that has `logits`.
        target: an int, a tuple, a tensor, a list, None, or a function of the output.
        batch: the number of examples.

    Raises:
        AttentionError: an output without logits, or a target that does not give one number of each example's.
    """
    if callable(target):
        return _one_each(target(output), "the function", batch)
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise AttentionError(
            f"the model puts out {type(output).__name__} without logits, so no class can be chosen by number. Load it with the"
            f" head that gives them, or say what its score is: {_FUNCTION} (for instance output.pooler_output[:, 0])."
        )
    try:
        chosen = _select_targets(logits, target)
    except (AssertionError, IndexError, RuntimeError, TypeError) as error:
        raise AttentionError(
            f"target={target!r} cannot be selected from logits of shape {tuple(logits.shape)} ({error}). Pass a class below"
            f" {logits.shape[-1]}, or one for each of the {batch} examples; for logits with more axes a tuple of indices, or a"
            " list of tuples."
        ) from error
    return _one_each(chosen, f"target={target!r}", batch)


def target_position(target: Target, batch: int) -> Tensor | None:
    """(batch,) the first of the indices by which a target chooses a number; None where it does not choose by several."""
    each = target if isinstance(target, list) else [target] * batch
    several = [indices[0] for indices in each if isinstance(indices, tuple) and len(indices) > 1]
    return torch.tensor(several) if len(several) == batch else None


def _one_each(score: Any, what: str, batch: int) -> Tensor:
    if not isinstance(score, Tensor) or score.ndim == 0 or len(score) != batch or score.numel() != batch:
        came = f"a tensor {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        raise AttentionError(
            f"{what} gives {came}, and a gradient is of one score per example: ({batch},). Pass the index of a class, a"
            f" tuple of indices for logits with more axes (position, class), or a function: {_FUNCTION}."
        )
    return score.reshape(batch)
