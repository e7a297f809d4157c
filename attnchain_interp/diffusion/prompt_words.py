"""The tokens of a word among the labels of a text."""

from __future__ import annotations

import logging
from typing import Final

from attnchain_interp.errors import AttentionError
from attnchain_interp.store.tokens import TokenLayout

_MARKS: Final = ("▁", "Ġ", "</w>", "##")  # of words' beginnings, ends and continuations

log = logging.getLogger("attnchain_interp")


def tokens_of_word(tokens: TokenLayout, word: str, example: int = 0) -> list[int]:
    """Returns the positions of a word's tokens in the sequence of a store, for every occurrence of the word in the prompt.

    A word that the tokenizer splits has several tokens. All are returned, and the log says so. Several words ("great white
    shark") are the tokens of each in turn.

    Raises:
        AttentionError: a layout without labels, or a word that is not in the prompt.

    >>> from attnchain_interp.store.tokens import Role
    >>> import torch
    >>> roles = torch.full((1, 4), int(Role.TEXT), dtype=torch.uint8)
    >>> tokens_of_word(TokenLayout(roles, labels=[["▁a", "▁cor", "gi", "</s>"]]), "corgi")
    [1, 2]
    """
    if tokens.labels is None:
        raise AttentionError("these tokens have no labels.", "Give the prompt: capture_pipeline(pipe, prompt=…).")
    labels, wanted = [_plain(label) for label in tokens.labels[example]], "".join(word.split()).casefold()
    found: list[int] = []
    for first in range(len(labels)):
        text = ""
        for last in range(first, len(labels)):
            text += labels[last]
            if not tokens.labels[example][last] or not wanted.startswith(text) or not text:
                break
            if text == wanted:
                if last > first:
                    log.info("%r is %d tokens; all are used", word, last - first + 1)
                found += range(first, last + 1)
                break
    if not found:
        there = " ".join(label for label in dict.fromkeys(tokens.labels[example]) if label)
        raise AttentionError(f"{word!r} is not among the tokens of the prompt: {there}.", "Use one of its words.")
    return sorted(set(found))


def _plain(label: str) -> str:
    for mark in _MARKS:
        label = label.replace(mark, "")
    return label.casefold()
