"""Occlusions of texts: removed tokens are deleted, replaced, hidden from all tokens, or lose their embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from attnchain_evals.perturbation.class_score import next_logits
from attnchain_evals.perturbation.occlusion.replacements import Occlusion, Replacement, View, check_ends
from attnchain_interp import AttentionError
from attnchain_interp.attribution import HiddenTokens, changed_embeddings, embedding_of, mean_embedding
from attnchain_interp.checks import check_whole_number


@final
@dataclass(frozen=True)
class ReplaceToken(Replacement):
    """Replaces each removed token by another one.

    Attributes:
        token: the number of the other token, such as `tokenizer.mask_token_id`, or of a word without meaning.
    """

    token: int
    name = "replace-token"
    space = "token numbers"
    axes = frozenset({2})

    def __post_init__(self) -> None:
        check_whole_number("token", self.token, "the number of a token in the vocabulary", least=0)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.full_like(images, self.token)


@final
@dataclass(frozen=True)
class PadToken(Occlusion):
    """Replaces each removed token by the model's padding. The other tokens still attend to it."""

    name = "pad-token"
    space = "token numbers"
    axes = frozenset({2})

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        number = getattr(getattr(model, "config", None), "pad_token_id", None)
        if number is None:
            raise AttentionError(f"{type(model).__name__} names no padding in its config.", "Use ReplaceToken(number).")
        return ReplaceToken(number).over(model, inputs, first)


@final
@dataclass(frozen=True)
class TokenDelete(Occlusion):
    """Deletes the removed tokens. The tokens behind them move up, so their positions change."""

    name = "token-delete"
    space = "token numbers"
    axes = frozenset({2})

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        def view(examples: Tensor, removed: Tensor) -> Tensor:
            check_ends(model, inputs[examples][removed])
            counts = removed.sum(1)
            if bool((counts == removed.shape[1]).any()):
                raise AttentionError(
                    "a text has no token left.",
                    "Leave special tokens out of the features, or use ends=False and fractions below 1.",
                )

            def logits(where: Tensor) -> Tensor:
                return next_logits(model, inputs[examples[where]][~removed[where]].view(len(where), -1))

            return by_count(counts, logits)

        return view


@final
@dataclass(frozen=True)
class MeanEmbedding(Occlusion):
    """Replaces the embedding of each removed token by the mean embedding of the vocabulary. Positions stay.

    The model tells its embedding by `get_input_embeddings`, as models of transformers do. That of an encoder is replaced where
    a decoder follows, as by `LeaveOneOut`.
    """

    name = "mean-embedding"
    space = "the model's embeddings, before positions are added"
    axes = frozenset({2})

    @torch.no_grad()
    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        try:
            embedding = embedding_of(model)  # type: ignore[arg-type]
        except AttentionError as error:
            raise AttentionError(
                f"{type(model).__name__} does not tell its embedding by get_input_embeddings.", "Use AttentionMask."
            ) from error
        mean = mean_embedding(embedding, inputs.device)

        def view(examples: Tensor, removed: Tensor) -> Tensor:
            with changed_embeddings(embedding, lambda given: torch.where(removed[..., None], mean.to(given), given)):
                return next_logits(model, inputs[examples])

        return view


def by_count(counts: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the logits (row, class) of rows of different lengths, one forward per length.

    Args:
        counts: (row,) the number of removed tokens of each row; rows of equal count share a forward.
        logits: the numbers of some rows → their logits.
    """
    groups = [(counts == count).nonzero()[:, 0] for count in counts.unique()]
    return torch.cat([logits(where) for where in groups])[torch.cat(groups).argsort()]


def unattended(model: Any, texts: Tensor) -> View:
    """Returns a callable that runs the model on texts (batch, token) while the removed tokens are hidden: `HiddenTokens`."""

    def run(rows: Tensor, **named: Tensor) -> Tensor:
        return next_logits(model, rows, **named)

    hidden = HiddenTokens(model, run, texts[:1], instead=("MeanEmbedding", "ReplaceToken(number)", "TokenDelete"))
    return lambda examples, removed: hidden(texts[examples], ~removed)
