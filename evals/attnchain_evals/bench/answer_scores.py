"""The scores of whole answers: the sums over the tokens of an answer, each explained after the tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from attnchain_interp import AttentionError, RandomRanking, TextAttribution
from attnchain_interp.attribution import Method


def answer_scores(method: Any, model: nn.Module, texts: Tensor, answers: Tensor, first: int = 0) -> Tensor:
    """Returns the scores (batch, token) of texts for answers: the `seq_attr` of `TextAttribution`.

    A method that reads gradients explains the log-probability of each token of the answer, one that reads contexts its logit.

    Args:
        method: of this library; it is given the model if it has none.
        model: a decoder.
        texts: (batch, token).
        answers: (batch, token of the answer).
        first: the number of the first text in the data. It seeds random scores.

    Raises:
        AttentionError: a model that writes no text, and the errors of `TextAttribution`.
    """
    if isinstance(method, Method) and method.forward_func is None:
        method = method.changed(forward_func=model)
    found = []
    for number, (text, answer) in enumerate(zip(texts, answers, strict=True), first):
        seeded = method.changed(seed=method.seed + number) if isinstance(method, RandomRanking) else method
        scored = TextAttribution(seeded, _Numbers()).attribute(text, answer)
        if scored.output_probs is None:
            raise AttentionError(
                f"the data have answers to explain, and {type(model).__name__} writes none.",
                'Load a decoder, or data with explained="first token".',
            )
        found.append(scored.seq_attr)
    return torch.stack(found).to(texts.device)


@final
class _Numbers:
    """A tokenizer that calls a token by its number. Labels of tokens are not read here."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.encode(text)}

    def encode(self, text: str) -> list[int]:
        return [int(number) for number in text.split()]

    def decode(self, numbers: Sequence[int], **_: Any) -> str:
        return "".join(f" {number}" for number in numbers)

    def convert_ids_to_tokens(self, numbers: Sequence[int]) -> list[str]:
        return [str(number) for number in numbers]
