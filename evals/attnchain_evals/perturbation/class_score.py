"""What a model says of one class: the number that goes down when evidence is removed."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from attnchain_interp import AttentionError

ClassScore = Literal["probability", "logit", "log-odds", "accuracy"]


def logits_of(output: Any, inputs: Tensor) -> Tensor:
    """(batch, class): the logits of an output; of a language model (batch, token, class) those of the last token.

    Args:
        output: logits, or what has `.logits`.
        inputs: of the model; only of token numbers (batch, token) is the last one taken.

    Raises:
        AttentionError: no logits (batch, class).
    """
    logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 3 and inputs.ndim == 2:
        logits = logits[:, -1]
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        came = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise AttentionError(
            f"the model returned {came}; logits (batch, class) are needed: take one with a classification head."
        )
    return logits


def class_score(logits: Tensor, target: Tensor, kind: ClassScore = "probability") -> Tensor:
    """(batch, …): the score of each example's class.

    "probability" p, the softmax; "logit"; "log-odds" log p / (1 − p); "accuracy" 1 where the class has the greatest logit (of
    equal ones the first), else 0: with the class of the clean prediction, whether the prediction stays.

    Args:
        logits: (batch, …, class).
        target: (batch,).

    Raises:
        AttentionError: another kind.
    """
    if kind not in get_args(ClassScore):
        raise AttentionError(f"score={kind!r}; use {', '.join(map(repr, get_args(ClassScore)))}.")
    where = target.view(-1, *[1] * (logits.ndim - 1)).expand(*logits.shape[:-1], 1)
    if kind == "accuracy":
        return (logits.argmax(-1) == where[..., 0]).to(logits.dtype)
    if kind == "probability":
        logits = logits.softmax(-1)
    own = logits.gather(-1, where)[..., 0]
    return own - logits.scatter(-1, where, -torch.inf).logsumexp(-1) if kind == "log-odds" else own
