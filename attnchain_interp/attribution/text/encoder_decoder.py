"""The scores of an encoder's tokens, one row for each output token of the decoder: walks that cross-attention starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.text.decoder import Rows, first_logits, probabilities
from attnchain_interp.attribution.text.hooks import TextHooks
from attnchain_interp.capture.capture import capture
from attnchain_interp.capture.reading import Reading
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.precision import float32_or_wider


def encoder_decoder_rows(method: TextHooks, model: nn.Module, prompt: Tensor, ids: Tensor, first: int) -> Rows:
    """Returns the rows of the output tokens ids[0, first:], each over the encoder's tokens.

    Args:
        method: starts walks, and does not read gradients.
        model: an encoder–decoder with a language-model head.
        prompt: the token ids of the encoder (1, token).
        ids: the token ids of the decoder (1, token): its start, then the output.
        first: the position of the first output token.

    Raises:
        AttentionError: a method that reads gradients or has no start, and the errors of the method.
    """
    name = type(method).__name__
    if method.reads_gradients:
        raise AttentionError(
            f"{name} reads gradients, and attribute_text has no rules for the cross-attention of an encoder–decoder.",
            "Use a method that reads attention alone: MultiBounce, Rollout, TokenRank.",
        )
    with first_logits(model) as seen:
        cross = capture(model, reading=Reading(kind="cross"), input_ids=prompt, decoder_input_ids=ids[:, :-1])
    source = method.read(Call(prompt, options={"reading": Reading(kind="encoder"), "decoder_input_ids": ids[:, :-1]}))
    attended = torch.stack([float32_or_wider(layer.maps)[0].mean(0) for layer in cross]).mean(0)[first - 1 :]
    rows = []
    with torch.no_grad():
        for k, row in enumerate(attended):
            started = method.started_at(row / row.sum(), source)
            if started is None:
                raise AttentionError(
                    f"{name} has no start, so it scores the encoder's tokens alike for every output token.",
                    "Use a method that cross-attention can start: MultiBounce, Rollout, RawAttention, AttentionFlow, or"
                    " TokenRank, which restarts there. Or score the encoder alone:"
                    ' score(capture(model, …, reading=Reading(kind="encoder"))).',
                )
            rows.append(started.scores(source, k)[-1].cpu().double())
    return Rows(torch.stack(rows), probabilities(seen[0], ids, first), method.text_policy("cross-attention"))
