"""The scores of texts without sets of their tokens: each set is run once, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final, get_args

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.perturbation.class_score import ClassScore, class_score

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
