"""The scores of a decoder's context for each token that it goes on with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_a_class.gradient_multi_bounce import GradientMultiBounce
from attnchain_interp.attribution.of_a_class.gradient_token_rank import GradientTokenRank
from attnchain_interp.attribution.of_a_class.transition_attention_maps import TransitionAttentionMaps
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.contribution_rollout import ContributionRollout
from attnchain_interp.attribution.text.starts import started_at
from attnchain_interp.attribution.token_attribution import Call, TokenAttribution
from attnchain_interp.capture.capture import capture
from attnchain_interp.capture.contributions import capture_contributions
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.precision import float32_or_wider
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.tokens import TokenLayout


class Rows(NamedTuple):
    """Scores (output token, token), zero from the output token on; and the model's probability of each output token."""

    scores: Tensor
    probabilities: Tensor


def decoder_rows(method: TokenAttribution, model: nn.Module, ids: Tensor, first: int, size: int) -> Rows:
    """The rows of the output tokens ids[0, first:], each over the tokens before it.

    Args:
        method: reads attention alone, contributions, or gradients too.
        model: a causal language model.
        ids: prompt and output (1, token).
        first: the number of the first output token.
        size: how many output tokens are differentiated together.

    Raises:
        AttentionError: a model that attends to later tokens, and what the method raises.
    """
    if isinstance(method, AttentionAttribution):
        return _of_attention(method, model, ids, first)
    if isinstance(method, ContributionRollout):
        return _of_contributions(method, model, ids, first)
    if isinstance(method, AttentionGradientAttribution):
        return _of_gradients(method, model, ids, first, size)
    raise AttentionError(
        f"{type(method).__name__} is neither an AttentionAttribution nor an AttentionGradientAttribution, so what it reads of"
        " a decoder is not known; derive it from one of them."
    )


def _of_attention(method: AttentionAttribution, model: nn.Module, ids: Tensor, first: int) -> Rows:
    with first_logits(model) as seen:
        store = capture(model, ids[:, :-1], layers=method.layers)  # what the last token attends to predicts nothing of it
    check_causal(store, model)
    states = store.tokens.select(method.tokens)
    rows = torch.zeros(ids.shape[1] - first, ids.shape[1] - 1, dtype=torch.float64)
    with torch.no_grad():
        for k, length in enumerate(range(first, ids.shape[1])):
            reading = copy.copy(started_at(method, length - 1) or method)
            assert isinstance(reading, AttentionAttribution)  # noqa: S101
            reading.layers, reading.tokens = "all", states[:, :length]  # the store holds the chosen layers alone
            rows[k, :length] = reading.score_part(context(store, length), k)[-1]
    return Rows(rows, probabilities(seen[0], ids, first))


def _of_contributions(method: ContributionRollout, model: nn.Module, ids: Tensor, first: int) -> Rows:
    with first_logits(model) as seen:
        store = capture_contributions(model, ids[:, :-1], measure=method.measure, layers=method.layers)
    check_causal(store, model)
    rows = torch.zeros(ids.shape[1] - first, ids.shape[1] - 1, dtype=torch.float64)
    for k, length in enumerate(range(first, ids.shape[1])):
        reading = started_at(method, length - 1)
        assert isinstance(reading, ContributionRollout)  # noqa: S101
        reading.layers = "all"  # the store holds the chosen layers alone
        rows[k, :length] = reading.score(context(store, length))[0]
    return Rows(rows, probabilities(seen[0], ids, first))


def _of_gradients(method: AttentionGradientAttribution, model: nn.Module, ids: Tensor, first: int, size: int) -> Rows:
    lengths = torch.arange(first, ids.shape[1])
    rows = torch.zeros(len(lengths), ids.shape[1] - 1, dtype=torch.float64)
    parts, inputs = [], model_inputs(method, model, ids[:, :-1])
    for some in lengths.split(size):
        several = torch.arange(len(some))

        def log_probability(output: Any, some: Tensor = some, several: Tensor = several) -> Tensor:
            predicted = float32_or_wider(logits_of(output)[several, some - 1]).log_softmax(-1)
            return predicted[several, ids[0, some].to(predicted.device)]

        repeated = inputs.expand(len(some), *inputs.shape[1:])
        with first_logits(model) as seen:
            found = method.gradients(Call(repeated, log_probability, (), 0))
        check_causal(found.store, model)
        parts.append(probabilities(seen[0], ids, first)[some - first])
        with torch.no_grad():
            for k, length in enumerate(some.tolist()):
                reading = copy.copy(started_at(method, length - 1) or method)
                assert isinstance(reading, AttentionGradientAttribution)  # noqa: S101
                if isinstance(reading, GradientTokenRank | GradientMultiBounce):
                    reading.tokens = found.tokens.select(reading.tokens)[k : k + 1, :length]
                cut = [gradient[k : k + 1, :, :length, :length] for gradient in found.gradients]
                rows[length - first, :length] = reading.relevance(AttentionGradients(context(found.store, length, k), cut))[0]
    return Rows(rows, torch.cat(parts))


def context(store: AttentionStore, length: int, example: int = 0) -> AttentionStore:
    """The attention of one example's first tokens among themselves: in a causal model, that of the shorter text."""
    part = slice(0, length)

    def cut(attention: Tensor | Factors) -> Tensor | Factors:
        if isinstance(attention, Factors):
            return attention.among(part)
        return attention[example : example + 1, :, part, part]

    layers = [LayerAttention(layer.name, cut(layer.attention), layer.sink) for layer in store]
    return AttentionStore(layers, TokenLayout(store.tokens.roles[example : example + 1, part]), store.metadata)


def check_causal(store: AttentionStore, model: nn.Module) -> None:
    """
    Raises:
        AttentionError: a layer in which a token attends to later ones.
    """
    for layer in store:
        if not layer.causal(store.tokens.mask):
            raise AttentionError(
                f"layer {layer.name!r} of {type(model).__name__} attends to later tokens, so what it reads before an output"
                " token depends on what comes after. Attribute one prediction of the whole text instead:"
                ' attribute(ids, target=(position, token), output="tokens").'
            )


@contextmanager
def first_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """While open, gathers the logits of the model's first forward."""
    seen: list[Tensor] = []

    def remember(_: nn.Module, __: Any, output: Any) -> None:
        if not seen:
            seen.append(logits_of(output).detach())

    handle = model.register_forward_hook(remember)
    try:
        yield seen
    finally:
        handle.remove()


def logits_of(output: Any) -> Tensor:
    """
    Raises:
        AttentionError: an output without logits.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise AttentionError(
            f"the model puts out {type(output).__name__} without logits; load it with its language-model head."
        )
    return logits


def probabilities(logits: Tensor, ids: Tensor, first: int) -> Tensor:
    """(output token,): what the logits (…, token, vocabulary) give to each of ids[0, first:], on the CPU."""
    predicted = float32_or_wider(logits[0, first - 1 : ids.shape[1] - 1]).softmax(-1).cpu()
    return predicted.gather(1, ids[0, first:, None].cpu())[:, 0]


def model_inputs(method: TokenAttribution, model: nn.Module, ids: Tensor) -> Tensor:
    """What the model is given: token numbers; or their embeddings, for the method that scales its inputs."""
    if isinstance(method, TransitionAttentionMaps):
        embeddings: Any = model.get_input_embeddings  # type: ignore[operator]
        return embeddings()(ids).detach()
    return ids
