"""The text that is attributed: its token numbers, and which of them each label stands for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, final

import torch
from captum.attr import TextTokenInput
from torch import Tensor

from attnchain_interp.errors import AttentionError

_TOKENIZER: Final = ("__call__", "encode", "decode", "convert_ids_to_tokens")


@final
@dataclass(frozen=True)
class Prompt:
    """One text for the model, and the units that it is scored by.

    Attributes:
        ids: (1, token).
        labels: of the units, tokens or words.
        units: (unit, token): 1 where a token belongs to a unit. Skipped tokens belong to none.
        inp: Captum's input.
        tokenizer: of the text.
    """

    ids: Tensor
    labels: list[str]
    units: Tensor
    inp: TextTokenInput
    tokenizer: Any

    def __len__(self) -> int:
        return self.ids.shape[1]

    def by_unit(self, scores: Tensor) -> Tensor:
        """(…, unit): scores (…, token) summed over the tokens of each unit."""
        return scores @ self.units.to(scores.dtype).mT


def prompt_of(text: Any, tokenizer: Any, words: bool) -> Prompt:
    """The prompt that a string, or Captum's `TextTokenInput`, is.

    Raises:
        AttentionError: several texts, another kind of input, no tokenizer or one that lacks a method, an empty text, or words
            of a tokenizer that does not know them.
    """
    if isinstance(text, TextTokenInput):
        inp, tokenizer = text, text.tokenizer
    elif not isinstance(text, str):
        several = f"{len(text)} texts; attribute them one by one" if isinstance(text, list | tuple) else type(text).__name__
        raise AttentionError(f"text is {several}. It must be one string, or one captum TextTokenInput.")
    else:
        check_tokenizer(tokenizer)
        if not text.strip():
            raise AttentionError(f"text is {text!r}; an empty prompt has no tokens to score.")
        inp = TextTokenInput(text, tokenizer)
    if inp.n_itp_features == 0:
        raise AttentionError("text has no tokens, or skip_tokens skips all of them; keep at least one.")
    ids, kept = inp.inp_tensor, torch.ones_like(inp.inp_tensor[0], dtype=torch.bool)
    if inp.itp_mask is not None:
        kept = inp.itp_mask[0]
    places = kept.nonzero()[:, 0].tolist()
    if not words:
        return Prompt(ids, list(inp.values), _units([[place] for place in places], len(kept)), inp, tokenizer)
    spelled, spans = _words(text if isinstance(text, str) else None, ids[0].tolist(), tokenizer)
    groups = [group for span in spans if (group := [place for place in span if kept[place]])]
    labels = [_label(spelled, group, dict(zip(places, inp.values, strict=True))) for group in groups]
    return Prompt(ids, labels, _units(groups, len(kept)), inp, tokenizer)


def check_tokenizer(tokenizer: Any) -> None:
    """
    Raises:
        AttentionError: None, or an object without the methods that are needed.
    """
    absent = [name for name in _TOKENIZER if not callable(getattr(tokenizer, name, None))]
    if absent:
        raise AttentionError(
            f"tokenizer is {type(tokenizer).__name__}, which lacks {', '.join(absent)}. A string needs the model's tokenizer:"
            " attribute_text(text, tokenizer=AutoTokenizer.from_pretrained(…)); a captum TextTokenInput brings its own."
        )


def _units(groups: list[list[int]], tokens: int) -> Tensor:
    units = torch.zeros(len(groups), tokens)
    for unit, group in enumerate(groups):
        units[unit, group] = 1
    return units


@final
@dataclass(frozen=True)
class _Spelled:
    """A text, and the characters (start, end) that each token stands for; None for what is not in the text."""

    text: str
    spans: list[tuple[int, int] | None]


def _words(text: str | None, ids: list[int], tokenizer: Any) -> tuple[_Spelled, list[list[int]]]:
    """The text with its tokens' spans, and the tokens of each word.

    A word begins where the tokenizer's own split into words begins one, or after a space: some tokenizers split nothing. A
    token that it added is a word by itself.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise AttentionError(
            f"words=True needs to know which tokens make a word, which {type(tokenizer).__name__} does not tell; pass a fast"
            " tokenizer (AutoTokenizer.from_pretrained(…, use_fast=True)), or leave words out."
        )
    spelling: str = tokenizer.decode(ids) if text is None else text
    encoding = tokenizer(spelling, add_special_tokens=text is not None, return_offsets_mapping=True)
    if encoding["input_ids"] != ids:
        raise AttentionError(
            "words=True: a TextTokenInput holds token numbers alone, and read as text and tokenised again these give others."
            " Pass the text as a string."
        )
    numbers = encoding.word_ids(0)
    spans = [None if number is None else tuple(span) for number, span in zip(numbers, encoding["offset_mapping"], strict=True)]
    spelled = _Spelled(spelling, spans)
    groups = [[0]]
    for before, place in pairwise(range(len(ids))):
        if numbers[before] is None or numbers[before] != numbers[place] or _space_between(spelled, before, place):
            groups.append([place])
        else:
            groups[-1].append(place)
    return spelled, groups


def _space_between(spelled: _Spelled, before: int, place: int) -> bool:
    """Whether one token ends with a space, the next begins with one, or there is one between them."""
    (_, end), (start, stop) = spelled.spans[before] or (0, 0), spelled.spans[place] or (0, 0)
    border = spelled.text[max(end - 1, 0) : start + 1] if stop > start >= end else ""  # bytes of one character overlap
    return any(character.isspace() for character in border)


def _label(spelled: _Spelled, group: list[int], tokens: dict[int, str]) -> str:
    spans = [span for place in group if (span := spelled.spans[place])]
    word = spelled.text[min(start for start, _ in spans) : max(end for _, end in spans)].strip() if spans else ""
    return word or "".join(tokens[place] for place in group)
