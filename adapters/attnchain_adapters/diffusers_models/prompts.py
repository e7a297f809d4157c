"""The tokens of a prompt as a pipeline's text encoders see them, and those of a word."""

from __future__ import annotations

import logging
from typing import Any, Final

from attnchain_interp import AttentionError, TokenLayout

_MARKS: Final = ("▁", "Ġ", "</w>", "##")  # of words' beginnings, ends and continuations

log = logging.getLogger("attnchain_interp")


def prompt_tokens(pipe: Any, prompt: str, length: int) -> list[str]:
    """The labels of the `length` text tokens that the denoiser is given for a prompt.

    FLUX reads its second tokenizer (T5), Stable Diffusion 3 the first (CLIP) and then the third (T5), others their only or
    first one. Padding is labelled as the tokenizer calls it.

    Raises:
        AttentionError: a pipeline without a tokenizer; a prompt that is cut off.
    """
    if getattr(pipe, "tokenizer", None) is None:
        raise AttentionError(f"{type(pipe).__name__} has no tokenizer, so its text tokens have no labels; leave out prompt=….")
    if getattr(pipe, "tokenizer_3", None) is not None:
        first = min(pipe.tokenizer.model_max_length, length)
        return _tokens(pipe.tokenizer, prompt, first) + (_tokens(pipe.tokenizer_3, prompt, length - first))
    joint = type(pipe).__name__.startswith("Flux") and getattr(pipe, "tokenizer_2", None) is not None
    return _tokens(pipe.tokenizer_2 if joint else pipe.tokenizer, prompt, length)


def tokens_of_word(tokens: TokenLayout, word: str, example: int = 0) -> list[int]:
    """The positions of every token of every occurrence of a word in the prompt, in the sequence of a store.

    A word that the tokenizer splits has several tokens; all are given, and the log says so.

    Raises:
        AttentionError: a layout without labels, or a word that is not there.

    >>> from attnchain_interp import Role
    >>> import torch
    >>> roles = torch.full((1, 4), int(Role.TEXT), dtype=torch.uint8)
    >>> tokens_of_word(TokenLayout(roles, labels=[["▁a", "▁cor", "gi", "</s>"]]), "corgi")
    [1, 2]
    """
    if tokens.labels is None:
        raise AttentionError("these tokens have no labels; give the prompt: capture_pipeline(pipe, prompt=…).")
    labels, wanted = [_plain(label) for label in tokens.labels[example]], word.casefold().strip()
    found: list[int] = []
    for first in range(len(labels)):
        text = ""
        for last in range(first, len(labels)):
            text += labels[last]
            if not labels[last] or not wanted.startswith(text):
                break
            if text == wanted:
                if last > first:
                    log.info("%r is %d tokens; all are used", word, last - first + 1)
                found += range(first, last + 1)
                break
    if not found:
        there = " ".join(label for label in dict.fromkeys(tokens.labels[example]) if label)
        raise AttentionError(f"{word!r} is not among the tokens of the prompt: {there}.")
    return sorted(set(found))


def _tokens(tokenizer: Any, prompt: str, length: int) -> list[str]:
    whole = tokenizer(prompt, add_special_tokens=True).input_ids
    if len(whole) > length:
        lost = tokenizer.decode(whole[length - 1 :], skip_special_tokens=True)
        raise AttentionError(f"the prompt has {len(whole)} tokens and the model reads {length}; it never sees {lost!r}.")
    padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return tokenizer.convert_ids_to_tokens(padded)


def _plain(label: str) -> str:
    for mark in _MARKS:
        label = label.replace(mark, "")
    return label.casefold()
