"""The score of a target: the number of a model's output that is explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.capture.reading import checked
from attnchain_interp.capture.source import forward_of, module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import TokenLayout

Index = int | np.integer[Any] | Tensor | NDArray[Any]
Target = None | Index | tuple[Index, ...] | list[int] | list[Tensor] | list[tuple[int, ...]] | Callable[[Any], Tensor]


@final
@dataclass(frozen=True)
class SeveralScores:
    """A target of several scores of one example: one forward and one backward give the gradient of each.

    Attributes:
        scores: of the model's output: (score,).
        tokens: returns, after the forward, a tensor (1, token, width) of its graph and a number `first`: of that tensor score
            k depends on token `first` + k alone. The backward up to it is then one for all scores. None: not known.
    """

    scores: Callable[[Any], Tensor]
    tokens: Callable[[], tuple[Tensor, int] | None] | None = None

    def __call__(self, output: Any) -> Tensor:
        return self.scores(output)


_FUNCTION: Final = "target=lambda output: …, which gives one score per example"


def logits_of(output: Any, fix: str = "Load the model with the head that gives them.") -> Tensor:
    """Returns the logits of a model's output: its `logits`, as in transformers, or the output itself where it is a tensor.

    Args:
        output: of the model.
        fix: the second line of the error.

    Raises:
        AttentionError: an output without logits.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise AttentionError(f"the model outputs {type(output).__name__} without logits.", fix)
    return logits


def logits_kept(model: Any, count: int, options: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Returns the argument by which a language model gives the logits of its last `count` positions alone; none for another.

    The logits of a long prompt take more memory than the attention of a layer. Labels among the options of the call need all.
    """
    options = options or {}
    if "labels" in {**options, **checked(options.get("reading")).arguments}:
        return {}
    forward = model if module_of(model) is None else forward_of(model)
    try:
        known = inspect.signature(forward).parameters if callable(forward) else {}
    except ValueError:  # a function of C
        known = {}
    return {"logits_to_keep": count} if "logits_to_keep" in known else {}


def plain_target(target: Any) -> Any:
    """Returns a target whose numbers are ints: those of NumPy, and tensors of one number, are among them. Arrays are tensors.

    Raises:
        AttentionError: an array of anything but numbers, or truth values in place of numbers.

    >>> plain_target((-1, torch.tensor(7))), plain_target([torch.tensor(1), 2])
    ((-1, 7), [1, 2])
    """
    if isinstance(target, list | tuple):
        each = [plain_target(one) for one in target]
        return tuple(each) if isinstance(target, tuple) else each
    if isinstance(target, np.ndarray):
        target = torch.from_numpy(np.array(target)) if target.dtype.kind in "biuf" else target
    if isinstance(target, np.ndarray) or (isinstance(target, Tensor) and target.dtype == torch.bool):
        raise AttentionError(
            f"target holds {target.dtype}; a target is a number of a class.",
            "Pass the numbers of the classes; of a mask (example, class) with one in each row they are mask.nonzero()[:, 1].",
        )
    if isinstance(target, Tensor) and not target.is_floating_point():
        target = target.long()
    try:
        return index(target)
    except TypeError:
        return target


def selected_score(output: Any, target: Target, batch: int) -> Tensor:
    """Returns the score of each example (batch,): the number that Captum selects, or the result of a function.

    `SeveralScores` of one example are (score, 1).

    A model that reads several texts or images of an example (multiple choice) has one score for all of them.

    Args:
        output: logits (batch, …), or an output of transformers that has `logits`.
        target: an int, a tuple, a tensor, a list, None, or a function of the output.
        batch: the number of examples that the model reads.
    """
    from captum._utils.common import _select_targets  # captum loads pyplot

    if isinstance(target, SeveralScores):
        if batch != 1:
            raise AttentionError(f"several scores are of one example, and the model reads {batch}.", "Pass one example.")
        return target(output)[:, None]
    batch = _scores_of(output, batch)
    if callable(target):
        return _one_each(target(output), "the function", batch)
    logits = logits_of(
        output,
        "A class cannot be chosen by number here. Load the model with the head that gives logits, or pass a function:"
        f" {_FUNCTION} (for instance output.pooler_output[:, 0]).",
    )
    try:
        chosen = _select_targets(logits, plain_target(target))
    except (AssertionError, IndexError, RuntimeError, TypeError) as error:
        raise AttentionError(
            f"target={target!r} cannot be selected from logits of shape {tuple(logits.shape)} ({error}).",
            _choice(target, logits.shape[1:], batch),
        ) from error
    return _one_each(chosen, f"target={target!r}", batch)


def target_position(target: Target, batch: int) -> Tensor | None:
    """Returns the first index (batch,) of each target that is a tuple of indices; None where the targets have one index."""
    each = target if isinstance(target, list) else [target] * batch
    several = [indices[0] for indices in each if isinstance(indices, tuple) and len(indices) > 1]
    return torch.tensor(several, device="cpu") if len(several) == batch else None


def position_read(output: Any, target: Target, tokens: TokenLayout) -> Tensor | None:
    """Returns the position (batch,) of the token whose logits hold each target (position, class); None for other targets.

    Args:
        output: logits (batch, position, class) of all tokens or of the last ones, or an output of transformers with them.
        target: see `selected_score`.
        tokens: those that the model read.
    """
    position = target_position(target, tokens.batch)
    if position is None or (logits := logits_of(output)).ndim != 3 or logits.shape[1] > len(tokens):
        return None
    return len(tokens) - logits.shape[1] + position % logits.shape[1]


def kept_by_target(target: Target) -> int | None:
    """Returns of how many of the last positions the logits hold the targets: indices (−k, …); None where they may need more.

    >>> kept_by_target([(-1, 7), (-3, 9)]), kept_by_target((4, 7)), kept_by_target(7)
    (3, None, None)
    """
    each = target if isinstance(target, list) else [target]
    last = [-int(indices[0]) for indices in each if isinstance(indices, tuple) and len(indices) > 1 and int(indices[0]) < 0]
    return max(last) if each and len(last) == len(each) else None


def _choice(target: Any, sizes: Sequence[int], batch: int) -> str:
    """Says what can be selected from logits whose axes after the examples have these sizes."""
    if not sizes:
        return "Pass target=None, or a function of the output that gives one score per example."
    if isinstance(target, str):
        return "Pass the number of the class. A model of transformers knows it: model.config.label2id[name]."
    if len(sizes) == 1:
        ends = f"from 0 to {sizes[0] - 1} ({-sizes[0]} to -1 count from the end)"
        return f"Pass a class {ends}, or a list of one for each of the {batch} examples."
    tuples = [each for each in (target if isinstance(target, list) else [target]) if isinstance(each, tuple)]
    for place, size in enumerate(sizes):
        given = [each[place] for each in tuples if len(each) == len(sizes) and isinstance(each[place], int)]
        for wrong in (each for each in given if not -size <= each < size):
            return f"Pass an index from {-size} to {size - 1} in place of {wrong}."
    axes = " (position, class)" if len(sizes) == 2 else ""
    return f"Pass a tuple of {len(sizes)} indices{axes}, or a list of one for each of the {batch} examples."


def _scores_of(output: Any, batch: int) -> int:
    """Returns how many examples have a score: as many as the logits, of which each may be of several that the model reads."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    rows = len(logits) if isinstance(logits, Tensor) and logits.ndim else 0
    return rows if rows and batch % rows == 0 else batch


def _one_each(score: Any, source: str, batch: int) -> Tensor:
    if not isinstance(score, Tensor) or score.ndim == 0 or len(score) != batch or score.numel() != batch:
        came = f"a tensor {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        raise AttentionError(
            f"{source} gives {came}, and a gradient is of one score per example: ({batch},).",
            "Pass the index of a class, a tuple of indices for logits with more axes (position, class), or a function:"
            f" {_FUNCTION}.",
        )
    if not score.is_floating_point():
        raise AttentionError(
            f"{source} gives {score.dtype}, and a score changes with the inputs little by little.",
            "Return a logit or a probability, not the number of a class.",
        )
    return score.reshape(batch)
