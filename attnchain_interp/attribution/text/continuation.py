"""The output text of a model: given as a string or as token ids, or generated."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp.attribution.embeddings import embedding_of
from attnchain_interp.checks import check_whole_number
from attnchain_interp.errors import AttentionError

GREEDY: Final[dict[str, Any]] = {"max_new_tokens": 25, "do_sample": False, "num_beams": 1}

_NOT_TAKEN: Final = ("generation_config", "max_length", "num_return_sequences", "input_ids", "inputs", "attention_mask")


def given_tokens(target: Any, encode: Any) -> Tensor | None:
    """Returns the token ids (output token,) of a target, a string by `encode`; None where the model generates."""
    if target is None:
        return None
    if isinstance(target, str):
        tokens = torch.as_tensor(encode(target), dtype=torch.long, device="cpu")
    elif isinstance(target, int) and not isinstance(target, bool):
        tokens = torch.tensor([target], device="cpu")
    else:
        try:
            tokens = torch.as_tensor(target, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            tokens = torch.empty(0, 0, device="cpu")
        tokens = tokens.reshape(1) if tokens.ndim == 0 else tokens
    integers = not tokens.is_floating_point() and not tokens.is_complex() and tokens.dtype != torch.bool
    if tokens.ndim != 1 or not (integers or not tokens.numel()):
        came = f"{target.dtype} {tuple(target.shape)}" if isinstance(target, Tensor) else repr(target)
        raise AttentionError(
            f"target is {came}; for a model that generates, it is the text after the prompt.",
            "Pass a string, token numbers (output token,), or None to let the model generate.",
        )
    if not tokens.numel():
        raise AttentionError(
            f"target={target!r} has no tokens; give at least one.", "Pass None to let the model generate the target."
        )
    return tokens.long().cpu()


def generation_options(model: Any, gen_args: Mapping[str, Any] | None, tokenizer: Any) -> dict[str, Any]:
    """Returns the arguments of `generate`: those that are given, else greedy ones; a tokenizer for strings that end a text.

    Raises:
        AttentionError: arguments that say otherwise how long the output is, how many outputs there are, or what the prompt is.
    """
    options = {**GREEDY, **(gen_args or {})}
    if taken := [name for name in _NOT_TAKEN if name in options and (name, options[name]) != ("num_return_sequences", 1)]:
        raise AttentionError(
            f"gen_args holds {', '.join(taken)}; attribute_text generates one text of max_new_tokens tokens after the prompt.",
            'Pass the settings by their names: gen_args={"max_new_tokens": 25, "do_sample": True}. Or generate, and pass the'
            " new tokens as target.",
        )
    check_whole_number("max_new_tokens", options["max_new_tokens"], "how many tokens may be generated")
    stops = options.get("stop_strings", getattr(getattr(model, "generation_config", None), "stop_strings", None))
    return {"tokenizer": tokenizer, **options} if stops else options


def generated(generate: Callable[..., Any], prompt: Tensor, gen_args: dict[str, Any]) -> Tensor:
    """Returns the whole sequence (token,) that a model generates from the prompt (1, token), on the CPU.

    Raises:
        AttentionError: arguments that `generate` refuses.
    """
    try:
        output = generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), **gen_args)
    except (TypeError, ValueError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith("transformers.generation."):  # the model raised it
            raise
        cause = f"the model's generate does not take these gen_args: {error}"
        raise AttentionError(cause, "Pass arguments of model.generate.") from error
    sequences = output if isinstance(output, Tensor) else output.sequences
    return sequences[0].cpu()


def decoder_start(model: Any) -> Tensor:
    """Returns the token ids that a decoder starts with, before its own choices, as its configuration says."""
    configs = [getattr(model, "generation_config", None), model.config]

    def first(name: str) -> int | None:
        values = [getattr(config, name, None) for config in configs]
        alone = (value[0] if isinstance(value, list) and len(value) == 1 else value for value in values)  # of one example
        return next((value for value in alone if isinstance(value, int)), None)

    start, forced = first("decoder_start_token_id"), first("forced_bos_token_id")
    start = first("bos_token_id") if start is None else start  # as generate does
    if start is None:
        raise AttentionError(
            f"{type(model).__name__} does not say what its decoder starts with.",
            "Set model.generation_config.decoder_start_token_id.",
        )
    return torch.tensor([start] if forced is None else [start, forced], device="cpu")


def check_tokens(model: Any, tokens: Tensor, name: str) -> None:
    """Refuses token ids that the model has no embedding for."""
    count = None
    with suppress(AttentionError):
        count = getattr(embedding_of(model), "num_embeddings", None)
    if count is not None and bool(((tokens < 0) | (tokens >= count)).any()):
        raise AttentionError(
            f"{name} holds token numbers from {int(tokens.min())} to {int(tokens.max())}, but {type(model).__name__} has"
            f" tokens 0 to {count - 1}.",
            "Pass the tokenizer of this model, or numbers within its range.",
        )


def check_length(model: Any, tokens: int, name: str) -> None:
    """Refuses more tokens than the model has positions for."""
    config = getattr(model, "config", None)
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < tokens:
        raise AttentionError(
            f"{name} takes {tokens} tokens but {type(model).__name__} has positions for {positions}"
            " (max_position_embeddings).",
            "Shorten the text, or lower max_new_tokens.",
        )


def output_labels(tokens: Tensor, tokenizer: Any) -> list[str]:
    """Returns the text of each token, or its entry in the vocabulary where its text is a space or a part of a character.

    A token that the tokenizer does not know is called by its number.
    """

    def label(token: int, entry: str | None) -> str:
        if entry is None:
            return f"token {token}"
        spelled = tokenizer.decode([token]).strip()
        return spelled if spelled and "\ufffd" not in spelled else entry

    numbers = tokens.tolist()
    return [label(*pair) for pair in zip(numbers, tokenizer.convert_ids_to_tokens(numbers), strict=True)]
