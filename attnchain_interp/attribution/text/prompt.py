"""The text that is attributed: its token ids, and the tokens of each label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from captum.attr import TextTokenInput
from torch import Tensor

from attnchain_interp.attribution.text.spelling import Spelling, spelled
from attnchain_interp.attribution.text.text_ids import contents_of, input_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import full_precision


@final
@dataclass(frozen=True)
class Prompt:
    """One text for the model, and its units: tokens or words.

    Attributes:
        ids: the token ids (1, token).
        labels: one string per unit.
        units: (unit, token): 1 where a token belongs to a unit. A skipped token belongs to none.
        inp: Captum's input.
        tokenizer: of the text.
        spelling: of the units.
    """

    ids: Tensor
    labels: list[str]
    units: Tensor
    inp: TextTokenInput
    tokenizer: Any
    spelling: Spelling

    def __len__(self) -> int:
        return self.ids.shape[1]

    def unit_sinks(self, sinks: Mapping[int, str]) -> dict[int, str]:
        """Returns texts about sinks by the unit of the token instead of its position. A unit has that of its first sink."""
        units = self.units.argmax(0).tolist()
        told = {k: text for k, text in sinks.items() if k < len(self) and bool(self.units[:, k].any())}
        return {units[position]: text for position, text in reversed(told.items())}

    @full_precision()
    def by_unit(self, scores: Tensor) -> Tensor:
        """Returns the sums (…, unit) of scores (…, token) over the tokens of each unit."""
        return scores @ self.units.to(scores.dtype).mT


def prompt_of(text: Any, tokenizer: Any, words: bool, add_special_tokens: bool | None = None) -> Prompt:
    """Returns the prompt of a text. See `input_of`."""
    inp, spelling = input_of(text, tokenizer, add_special_tokens)
    tokenizer = inp.tokenizer
    if inp.n_itp_features == 0:
        raise AttentionError("text has no tokens, or skip_tokens skips all of them.", "Keep at least one token.")
    ids, kept = inp.inp_tensor, torch.ones_like(inp.inp_tensor[0], dtype=torch.bool)
    if inp.itp_mask is not None:
        kept = inp.itp_mask[0]
    places = kept.nonzero()[:, 0].tolist()
    read = spelled(ids[0].tolist(), tokenizer, contents_of(text))
    if not words:
        groups = [[place] for place in places]
        return Prompt(ids, list(inp.values), _units(groups, len(kept)), inp, tokenizer, read.joined(groups))
    written, spans = _words(spelling, ids[0].tolist(), tokenizer)
    groups = [group for span in spans if (group := [place for place in span if kept[place]])]
    labels = [_label(written, group, dict(zip(places, inp.values, strict=True))) for group in groups]
    return Prompt(ids, labels, _units(groups, len(kept)), inp, tokenizer, read.joined(groups))


def _units(groups: list[list[int]], tokens: int) -> Tensor:
    units = torch.zeros(len(groups), tokens, dtype=torch.float32, device="cpu")
    for unit, group in enumerate(groups):
        units[unit, group] = 1
    return units


@final
@dataclass(frozen=True)
class _Spelled:
    """A text, and the characters (start, end) of each token; None for a token that is not in the text."""

    text: str
    spans: list[tuple[int, int] | None]


def _words(text: str | None, ids: list[int], tokenizer: Any) -> tuple[_Spelled, list[list[int]]]:
    """Returns the text with the spans of its tokens, and the tokens of each word.

    A word begins where the tokenizer begins a word, or after a space: some tokenizers do not split. A token that the tokenizer
    added is a word by itself.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise AttentionError(
            f"words=True needs the tokens of each word, which {type(tokenizer).__name__} does not tell.",
            "Leave words out, or pass a fast tokenizer: AutoTokenizer.from_pretrained(…, use_fast=True).",
        )
    spelling: str = tokenizer.decode(ids) if text is None else text
    encoding = tokenizer(spelling, return_offsets_mapping=True)
    every = encoding["input_ids"]  # the special tokens that the tokenizer adds are at its ends
    first = next((k for k in range(len(every) - len(ids) + 1) if every[k : k + len(ids)] == ids), None)
    if first is None:
        raise AttentionError(
            "words=True: the text is given as token ids alone. Decoded and tokenised again, they give other ids.",
            "Pass the text as a string.",
        )
    part = slice(first, first + len(ids))
    numbers, offsets = encoding.word_ids(0)[part], encoding["offset_mapping"][part]
    spans = [None if number is None else tuple(span) for number, span in zip(numbers, offsets, strict=True)]
    spelled = _Spelled(spelling, spans)
    groups = [[0]]
    for before, place in pairwise(range(len(ids))):
        if numbers[before] is None or numbers[before] != numbers[place] or _space_between(spelled, before, place):
            groups.append([place])
        else:
            groups[-1].append(place)
    return spelled, groups


def _space_between(spelled: _Spelled, before: int, place: int) -> bool:
    """Returns whether one token ends with a space, the next begins with one, or a space lies between them."""
    (_, end), (start, stop) = spelled.spans[before] or (0, 0), spelled.spans[place] or (0, 0)
    border = spelled.text[max(end - 1, 0) : start + 1] if stop > start >= end else ""  # bytes of one character overlap
    return any(character.isspace() for character in border)


def _label(spelled: _Spelled, group: list[int], tokens: dict[int, str]) -> str:
    spans = [span for place in group if (span := spelled.spans[place])]
    word = spelled.text[min(start for start, _ in spans) : max(end for _, end in spans)].strip() if spans else ""
    return word or "".join(tokens[place] for place in group)
