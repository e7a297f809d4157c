"""The score of one class: a number that falls when evidence is removed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of
from attnchain_interp.gradients import logits_of

ClassScore = Literal["probability", "log-probability", "logit", "log-odds", "accuracy"]


def class_logits(output: Any, inputs: Tensor) -> Tensor:
    """Returns the logits (batch, class) of an output. A language model (batch, token, class) is read at its last token.

    Args:
        output: logits, or an object with `.logits`.
        inputs: of the model. The last token is read only where the inputs are token numbers (batch, token).
    """
    fix = "Take a model with a classification head."
    logits = logits_of(output, fix)
    if logits.ndim == 3 and inputs.ndim == 2:
        logits = logits[:, -1]
    if logits.ndim != 2:
        raise AttentionError(f"the model returned shape {tuple(logits.shape)}; logits (batch, class) are needed.", fix)
    return logits


def next_logits(model: Callable[..., Any], texts: Tensor, **named: Any) -> Tensor:
    """Returns the logits (batch, class) of a model of texts (batch, token). A language model is read at its last token.

    A model of transformers that can (`logits_to_keep`) computes the logits of the last token alone: those of a whole text of
    200 tokens and 50,000 words are 40 MB.
    """
    if "logits_to_keep" in inspect.signature(getattr(model, "forward", model)).parameters:
        named["logits_to_keep"] = 1
    return class_logits(model(texts, **named), texts)


@torch.no_grad()
def clean_logits(model: Callable[[Tensor], Any], inputs: Tensor, batch_size: int) -> Tensor:
    """Returns the logits (batch, class) of inputs as they are."""
    parts = inputs.split(batch_size)
    if inputs.ndim == 2:
        return torch.cat([next_logits(model, part).float() for part in parts])
    return torch.cat([class_logits(model(part), inputs).float() for part in parts])


def class_score(logits: Tensor, target: Tensor, kind: ClassScore = "probability") -> Tensor:
    """Returns the score (batch, …) of the class `target` (batch,) of each example, from logits (batch, …, class).

    "probability" is the softmax p, and "log-probability" is log p. "logit" is the logit. "log-odds" is log p / (1 − p).
    "accuracy" is 1 where the class has the greatest logit (the first of equal ones), else 0: with the class of the clean
    prediction it says whether the prediction stays.
    """
    check_one_of("score", kind, get_args(ClassScore))
    where = target.view(-1, *[1] * (logits.ndim - 1)).expand(*logits.shape[:-1], 1)
    if kind == "accuracy":
        return (logits.argmax(-1) == where[..., 0]).to(logits.dtype)
    if kind == "probability":
        logits = logits.softmax(-1)
    if kind == "log-probability":
        logits = logits.log_softmax(-1)
    own = logits.gather(-1, where)[..., 0]
    return own - logits.scatter(-1, where, -torch.inf).logsumexp(-1) if kind == "log-odds" else own
