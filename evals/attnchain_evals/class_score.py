"""What a model says of one class: the number that goes down when evidence is removed."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from attnchain_interp import AttentionError

ClassScore = Literal["probability", "logit", "log-odds", "accuracy"]


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
