"""The text that a model goes on with: given as a string or as token numbers, or generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError

TextTarget = str | int | Sequence[int] | Tensor | None


def given_tokens(target: Any, encode: Any) -> Tensor | None:
    """The token numbers (output token,) of a target, a string by `encode`; None where the model is to generate.

    Raises:
        AttentionError: another kind of target, or one without tokens.
    """
    if target is None:
        return None
    if isinstance(target, str):
        tokens = torch.as_tensor(encode(target), dtype=torch.long)
    elif isinstance(target, int) and not isinstance(target, bool):
        tokens = torch.tensor([target])
    else:
        try:
            tokens = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            tokens = torch.empty(0, 0)
        tokens = tokens.reshape(1) if tokens.ndim == 0 else tokens
    integers = not tokens.is_floating_point() and not tokens.is_complex() and tokens.dtype != torch.bool
    if tokens.ndim != 1 or not (integers or not tokens.numel()):
        raise AttentionError(
            f"target is {_described(target)}; of a model that generates it is the text it goes on with, as a string or as"
            " token numbers (output token,), or None to let it generate."
        )
    if not tokens.numel():
        raise AttentionError(f"target={target!r} has no tokens; give at least one, or None to let the model generate.")
    return tokens.long().cpu()


def generated(model: Any, prompt: Tensor, max_new_tokens: int) -> Tensor:
    """The whole sequence (token,) that greedy generation from the prompt (1, token) ends with, on the CPU."""
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "num_beams": 1}
    output = model.generate(prompt, max_new_tokens=max_new_tokens, **options)
    sequences = output if isinstance(output, Tensor) else output.sequences
    return sequences[0].cpu()


def check_new_tokens(max_new_tokens: Any) -> None:
    """
    Raises:
        AttentionError: not a positive number.
    """
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise AttentionError(f"max_new_tokens is {max_new_tokens!r}; it is how many tokens may be generated: 1, 2, …")


def check_tokens(model: Any, tokens: Tensor, what: str) -> None:
    """
    Raises:
        AttentionError: numbers that the model has no token for.
    """
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    count = getattr(embeddings, "num_embeddings", None)
    if count is not None and bool(((tokens < 0) | (tokens >= count)).any()):
        raise AttentionError(
            f"{what} holds token numbers from {int(tokens.min())} to {int(tokens.max())}, but {type(model).__name__} has"
            f" tokens 0 to {count - 1}: a number out of range, or the tokenizer of another model."
        )


def check_length(model: Any, tokens: int, what: str) -> None:
    """
    Raises:
        AttentionError: more tokens than the model has positions for.
    """
    config = getattr(model, "config", None)
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < tokens:
        raise AttentionError(
            f"{what} takes {tokens} tokens but {type(model).__name__} has positions for {positions}"
            " (max_position_embeddings); shorten the text, or lower max_new_tokens."
        )


def output_labels(tokens: Tensor, tokenizer: Any) -> list[str]:
    """The text of each token by itself; the vocabulary's own entry where it has none (a space, a part of a character).

    Models may have more tokens than their tokenizer; such a one is called by its number.
    """

    def label(token: int, entry: str | None) -> str:
        if entry is None:
            return f"token {token}"
        spelled = tokenizer.decode([token]).strip()
        return spelled if spelled and "\ufffd" not in spelled else entry

    numbers = tokens.tolist()
    return [label(*pair) for pair in zip(numbers, tokenizer.convert_ids_to_tokens(numbers), strict=True)]


def _described(target: Any) -> str:
    return f"{target.dtype} {tuple(target.shape)}" if isinstance(target, Tensor) else repr(target)
