"""The scores of an encoder's tokens for each token that a decoder puts out: walks that cross-attention starts."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.random_ranking import RandomRanking
from attnchain_interp.attribution.of_attention.token_rank import TokenRank
from attnchain_interp.attribution.text.decoder import Rows, first_logits, probabilities
from attnchain_interp.attribution.text.starts import started_at
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.capture.capture import capture
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.precision import float32_or_wider
from attnchain_interp.store.attention_store import AttentionStore

CROSS_POLICY: Final = (
    "the walk over the encoder starts where cross-attention goes from the decoder's position that predicts the output token"
    " (mean over layers and heads)"
)
RESTART_POLICY: Final = CROSS_POLICY.replace("starts", "starts and restarts")


def encoder_decoder_rows(method: TokenAttribution, model: nn.Module, prompt: Tensor, ids: Tensor, first: int) -> Rows:
    """The rows of the output tokens ids[0, first:], each over the encoder's tokens.

    Args:
        method: reads attention alone, and has a start or restarts.
        model: an encoder–decoder with a language-model head.
        prompt: the encoder's token numbers (1, token).
        ids: the decoder's (1, token): what it starts with, and the output.
        first: the number of the first output token.

    Raises:
        AttentionError: a method that has no meaning here, and what the method raises.
    """
    reading = _readable(method)
    given: dict[str, Any] = {"input_ids": prompt, "decoder_input_ids": ids[:, :-1]}
    with first_logits(model) as seen:
        cross = capture(model, kind="cross", **given)
    store = capture(model, kind="encoder", layers=reading.layers, **given)
    reading = copy.copy(reading)
    reading.layers = "all"  # the store holds the chosen layers alone
    attended = torch.stack([float32_or_wider(layer.maps)[0].mean(0) for layer in cross]).mean(0)[first - 1 :]
    with torch.no_grad():
        rows = [_from(reading, store, row / row.sum(), k).cpu().double() for k, row in enumerate(attended)]
    return Rows(torch.stack(rows), probabilities(seen[0], ids, first))


def _from(method: AttentionAttribution, store: AttentionStore, row: Tensor, k: int) -> Tensor:
    """(token,): the scores of walks that start in the distribution `row` (token,), for output token number `k`."""
    if isinstance(method, TokenRank):
        inside = row * method.chain(store).states[0].to(row.device)
        if not float(inside.sum()) > 0:
            raise AttentionError(f"output token {k} attends to none of the chosen tokens; choose others by tokens=….")
        restarting = copy.copy(method)
        restarting.personalization = inside / inside.sum()
        return restarting.score(store)[0]
    started = started_at(method, row) or method
    assert isinstance(started, AttentionAttribution)  # noqa: S101
    return started.score_part(store, k)[-1]


def _readable(method: TokenAttribution) -> AttentionAttribution:
    """The method, where it can be read here."""
    name = type(method).__name__
    if isinstance(method, AttentionGradientAttribution):
        raise AttentionError(
            f"{name} reads gradients, and the rules of an encoder–decoder's cross-attention are not among those of"
            " attribute_text. Use a method that reads attention alone: MultiBounce, Rollout, TokenRank."
        )
    has_start = started_at(method, 0) is not None
    if not isinstance(method, AttentionAttribution) or not (has_start or isinstance(method, TokenRank | RandomRanking)):
        raise AttentionError(
            f"{name} has no start, so it scores the encoder's tokens alike for every output token. Use a method that cross-"
            "attention can start: MultiBounce, Rollout, RawAttention, AttentionFlow, or TokenRank, which restarts there; or"
            ' score the encoder alone: score(capture(model, …, kind="encoder")).'
        )
    return method
