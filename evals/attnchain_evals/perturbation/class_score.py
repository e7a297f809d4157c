"""The score of one class: a number that falls when evidence is removed. Each set of tokens of a text is run once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of
from attnchain_interp.gradients import logits_kept, logits_of
from attnchain_interp.reprs import brief

ClassScore = Literal["probability", "log-probability", "logit", "log-odds", "accuracy"]


def class_logits(output: Any, inputs: Tensor) -> Tensor:
    """Returns the logits (batch, class) of an output. A language model (batch, token, class) is read at its last token.

    Args:
        output: logits, or an object with `.logits`.
        inputs: of the model. The last token is read only where the inputs are token numbers (batch, token).
    """
    fix = "Take a model with a classification head, or pass a function that returns the logits: lambda x: model(x)[0]."
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
    return class_logits(model(texts, **logits_kept(model, 1), **named), texts)


def classes_of(target: Any, clean: Tensor) -> Tensor:
    """Returns the classes (batch,) of a target: one class, or one per example. The prediction when None.

    Args:
        target: a whole number, or a list, array or tensor of them.
        clean: the logits (batch, class).

    Raises:
        AttentionError: what is no whole number, a class that the model lacks, or another number of classes than examples.
    """
    batch, classes = clean.shape
    fix = f"Pass one class, or one for each of the {batch} examples."
    try:
        chosen = clean.argmax(1) if target is None else torch.as_tensor(target, device=clean.device)
    except (TypeError, ValueError, RuntimeError):
        raise AttentionError(f"target is {brief(target)}, and classes are whole numbers.", fix) from None
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise AttentionError(f"target is {brief(target)}, and classes are whole numbers.", fix)
    if chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != batch) or bool(((chosen < 0) | (chosen >= classes)).any()):
        raise AttentionError(
            f"target {brief(chosen) if chosen.ndim else int(chosen)} does not name classes of this model; it has {classes},"
            f" numbered 0 to {classes - 1}.",
            fix,
        )
    return chosen.long().expand(batch)


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
    prediction it says whether the prediction stays. Logits that hold NaN have the score NaN.
    """
    check_one_of("score", kind, get_args(ClassScore))
    where = target.view(-1, *[1] * (logits.ndim - 1)).expand(*logits.shape[:-1], 1)
    if kind == "accuracy":
        return (logits.argmax(-1) == where[..., 0]).to(logits.dtype).masked_fill(logits.isnan().any(-1), torch.nan)
    if kind == "probability":
        logits = logits.softmax(-1)
    if kind == "log-probability":
        logits = logits.log_softmax(-1)
    own = logits.gather(-1, where)[..., 0]
    return own - logits.scatter(-1, where, -torch.inf).logsumexp(-1) if kind == "log-odds" else own


_KINDS: Final[tuple[ClassScore, ...]] = get_args(ClassScore)


@final
class KnownScores:
    """Runs a model on texts without sets of tokens, and keeps the scores of every kind.

    Args:
        logits: numbers of texts (row,), and (row, token) bool, true where a token is removed → logits (row, class).
        batch_size: rows of a forward.
    """

    def __init__(self, logits: Callable[[Tensor, Tensor], Tensor], batch_size: int) -> None:
        self._logits, self._batch_size = logits, batch_size
        self._known: dict[tuple[int, int, bytes], Tensor] = {}

    def __repr__(self) -> str:
        return f"KnownScores({len(self._known)})"

    def of(self, removed: Tensor, target: Tensor, score: ClassScore) -> Tensor:
        """Returns the scores (text, set) of the class `target` (text,) without the tokens in `removed` (text, set, token)."""
        texts, sets = removed.shape[:2]
        rows, text = removed.flatten(0, 1), torch.arange(texts, device=removed.device).repeat_interleave(sets)
        packed = np.packbits(rows.cpu().numpy(), axis=1)
        keys = [(k, c, row.tobytes()) for k, c, row in zip(text.tolist(), target[text].tolist(), packed, strict=True)]
        new = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._known}
        for places in torch.tensor(sorted(new.values()), dtype=torch.long, device=removed.device).split(self._batch_size):
            if len(places):
                logits = self._logits(text[places], rows[places])
                found = torch.stack([class_score(logits, target[text[places]], kind) for kind in _KINDS], 1)
                self._known |= zip([keys[place] for place in places.tolist()], found, strict=True)
        return torch.stack([self._known[key][_KINDS.index(score)] for key in keys]).view(texts, sets)
