"""The attribution of a text, whichever kind of model reads it."""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_attention.metastable_states import MetastableStates
from attnchain_interp.attribution.of_attention.random_ranking import RandomRanking
from attnchain_interp.attribution.of_attention.token_rank import TokenRank
from attnchain_interp.attribution.text.continuation import (
    check_length,
    check_new_tokens,
    check_tokens,
    generated,
    given_tokens,
    output_labels,
)
from attnchain_interp.attribution.text.decoder import decoder_rows, model_inputs
from attnchain_interp.attribution.text.encoder_decoder import CROSS_POLICY, RESTART_POLICY, encoder_decoder_rows
from attnchain_interp.attribution.text.prompt import Prompt, prompt_of
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.text.starts import policy_of
from attnchain_interp.attribution.token_attribution import Call, TokenAttribution
from attnchain_interp.capture.capture import uncompiled
from attnchain_interp.errors import AttentionError

WHOLE_POLICY: Final = "the method as it is set up, over the whole text"


def attributed_text(
    method: TokenAttribution,
    text: Any,
    target: Any,
    tokenizer: Any,
    words: bool,
    max_new_tokens: int,
    internal_batch_size: int,
) -> TextAttributionResult:
    """As `TokenAttribution.attribute_text`."""
    if isinstance(internal_batch_size, bool) or not isinstance(internal_batch_size, int) or internal_batch_size < 1:
        raise AttentionError(
            f"internal_batch_size is {internal_batch_size!r}; it is how many output tokens at a time: 1, 2, …"
        )
    if getattr(method, "heads", None) == "each":
        raise AttentionError('heads="each" gives a row for every head, and a text has one for every output token; name heads.')
    model = uncompiled(method.forward_func)
    kind = _kind(model)
    if isinstance(method, MetastableStates) and (words or kind != "encoder"):
        raise AttentionError(
            "MetastableStates numbers the states that tokens belong to, and numbers cannot be summed over the tokens of a"
            " word or over output tokens; read them off a capture: score(capture(model, ids))."
        )
    prompt = prompt_of(text, tokenizer, words)
    check_tokens(model, prompt.ids, "text")
    check_length(model, len(prompt), "text")
    ids = prompt.ids.to(_device(model))
    if kind == "encoder":
        return _of_encoder(method, model, prompt, ids, target)
    check_new_tokens(max_new_tokens)
    if kind == "decoder":
        return _of_decoder(method, model, prompt, ids, target, max_new_tokens, internal_batch_size)
    return _of_encoder_decoder(method, model, prompt, ids, target, max_new_tokens)


def _kind(model: Any) -> Literal["encoder", "decoder", "encoder-decoder"]:
    """What goes on with a text, and by which parts; everything else reads it as a whole."""
    if model is None:
        raise AttentionError("the method was made without a model, which attribute_text needs: give it as forward_func.")
    if not isinstance(model, nn.Module):
        return "encoder"
    generates = getattr(model, "can_generate", lambda: False)()
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return "decoder" if generates else "encoder"
    taken = getattr(model, "main_input_name", "input_ids")
    if not generates or taken != "input_ids":
        why = "has no language-model head" if not generates else f"reads {taken}"
        raise AttentionError(
            f"{type(model).__name__} is an encoder–decoder that {why}; attribute_text takes those that read a text and put out"
            ' another. Score its encoder: method.score(capture(model, …, kind="encoder")).'
        )
    return "encoder-decoder"


def _of_encoder(method: TokenAttribution, model: Any, prompt: Prompt, ids: Tensor, target: Any) -> TextAttributionResult:
    if isinstance(target, str):
        raise AttentionError(
            f"target is a string, and {type(model).__name__} puts out no text; pass the index of a class, as in Captum, or"
            " (position, token) of a masked language model. Of a decoder, load the language-model head."
        )
    scores = method.scored(Call(model_inputs(method, model, ids), target, (), 0), False).scores
    specific = isinstance(method, AttentionGradientAttribution)
    return TextAttributionResult(
        input_tokens=prompt.labels,
        output_tokens=[_class_name(model, target, prompt) if specific else method.get_name()],
        token_attr=prompt.by_unit(scores.cpu()),
        policy=WHOLE_POLICY,
        inp=prompt.inp,
    )


def _of_decoder(
    method: TokenAttribution, model: Any, prompt: Prompt, ids: Tensor, target: Any, max_new_tokens: int, size: int
) -> TextAttributionResult:
    n = len(prompt)
    tokens = given_tokens(target, lambda text: prompt.tokenizer.encode(text, add_special_tokens=False))
    check_length(model, n + (max_new_tokens if tokens is None else len(tokens)) - 1, "text and target")
    if tokens is None:
        tokens = generated(model, ids, max_new_tokens)[n:]
    check_tokens(model, tokens, "target")
    rows = decoder_rows(method, model, torch.cat([ids, tokens[None].to(ids)], 1), n, size)
    scores = rows.scores.to(rows.probabilities.dtype)
    return TextAttributionResult(
        input_tokens=prompt.labels,
        output_tokens=output_labels(tokens, prompt.tokenizer),
        token_attr=prompt.by_unit(scores[:, :n]),
        output_attr=torch.cat([scores[:, n:], scores.new_zeros(len(tokens), 1)], 1),
        output_probs=rows.probabilities,
        policy=policy_of(method),
        inp=prompt.inp,
    )


def _of_encoder_decoder(
    method: TokenAttribution, model: Any, prompt: Prompt, ids: Tensor, target: Any, max_new_tokens: int
) -> TextAttributionResult:
    tokenizer = prompt.tokenizer
    tokens = given_tokens(target, lambda text: tokenizer(text_target=text, add_special_tokens=False)["input_ids"])
    if tokens is None:
        check_length(model, max_new_tokens, "target")
        sequence, first = generated(model, ids, max_new_tokens), 1
        tokens = sequence[first:]
    else:
        before = _decoder_start(model)
        sequence, first = torch.cat([before, tokens]), len(before)
        check_length(model, len(sequence) - 1, "target")
    check_tokens(model, sequence, "target with what the decoder starts with")
    rows = encoder_decoder_rows(method, model, ids, sequence[None].to(ids), first)
    if isinstance(method, RandomRanking):
        policy = policy_of(method)
    else:
        policy = RESTART_POLICY if isinstance(method, TokenRank) else CROSS_POLICY
    return TextAttributionResult(
        input_tokens=prompt.labels,
        output_tokens=output_labels(tokens, tokenizer),
        token_attr=prompt.by_unit(rows.scores.to(rows.probabilities.dtype)),
        output_probs=rows.probabilities,
        policy=policy,
        inp=prompt.inp,
    )


def _decoder_start(model: Any) -> Tensor:
    """The tokens that a decoder starts with before it puts out any of its own choice."""
    configs = [getattr(model, "generation_config", None), model.config]

    def first(name: str) -> int | None:
        values = [getattr(config, name, None) for config in configs]
        return next((value for value in values if isinstance(value, int)), None)

    start, forced = first("decoder_start_token_id"), first("forced_bos_token_id")
    start = first("bos_token_id") if start is None else start  # as generate does
    if start is None:
        raise AttentionError(
            f"{type(model).__name__} does not say what its decoder starts with; set"
            " model.generation_config.decoder_start_token_id."
        )
    return torch.tensor([start] if forced is None else [start, forced])


def _class_name(model: Any, target: Any, prompt: Prompt) -> str:
    """What a target is called: the name of a class, or the token of a masked language model."""
    while isinstance(target, list | tuple):  # one per example, or indices of which the last is the class
        target = target[0] if isinstance(target, list) else target[-1]
    if target is None or callable(target):
        return "target"
    if getattr(model, "get_output_embeddings", lambda: None)() is not None:
        return prompt.tokenizer.convert_ids_to_tokens([int(target)])[0]
    return str(getattr(getattr(model, "config", None), "id2label", {}).get(int(target), int(target)))


def _device(model: Any) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
