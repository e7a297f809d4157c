"""The tokens of a prompt: which of them are ranked, of which word and sentence each is, and which hold the evidence."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnchain_evals.tasks.examples import Passage
from attnchain_evals.tasks.prompts import Prompt, Span
from attnchain_interp import AttentionError


def passage_of(prompt: Prompt, tokenizer: Any) -> Passage:
    """Returns the tokens of a prompt, as the offsets of a fast tokenizer of transformers place its characters.

    A prompt that is a message goes through the tokenizer's chat template, if it has one, and the cue begins the reply. White
    space that is a token of its own before the answer (" 17" of some tokenizers) belongs to the prompt.

    Tokens outside of `prompt.text`, special tokens and the last token are not ranked. A token is of the word, and of the
    sentence, that holds its last character. It is evidence if it shares a character with a span of the evidence.
    """
    text, start, plain = _written(prompt, tokenizer)
    try:
        encoding = tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True, return_special_tokens_mask=True)
    except (NotImplementedError, TypeError) as error:
        raise AttentionError(
            f"{type(tokenizer).__name__} does not say which characters a token has ({error}).",
            "Pass a fast tokenizer of transformers.",
        ) from error
    lead, answer, *rest = _answer(prompt.answer, text, tokenizer)
    ids = [*encoding["input_ids"], *lead]
    spans = [(max(first - start, 0), behind - start) for first, behind in encoding["offset_mapping"]]
    ranked = [
        place
        for place, (first, behind) in enumerate(spans)
        if place < len(ids) - 1 and not encoding["special_tokens_mask"][place] and first < min(behind, len(prompt.text))
    ]
    if not ranked:
        raise AttentionError(f"the prompt {prompt.name!r} has no token to rank: {text!r}.", "Take it out of the file.")
    evidence = [
        any(spans[place][0] < behind and first < spans[place][1] for first, behind in prompt.evidence) for place in ranked
    ]
    words = [found.span() for found in re.finditer(r"\S+", prompt.text)]
    ends = [spans[place][1] - 1 for place in ranked]

    def spread(values: Tensor, other: int) -> Tensor:
        return values.new_full((len(ids),), other).index_put((torch.tensor(ranked),), values)

    return Passage(
        torch.tensor(ids),
        spread(_numbers(ends, words), -1),
        spread(torch.tensor(evidence), False),
        spread(_numbers(ends, prompt.sentences), -1) if prompt.sentences else None,
        answer,
        tuple(rest),
    )


def _written(prompt: Prompt, tokenizer: Any) -> tuple[str, int, bool]:
    """Returns the whole prompt, the place of its ranked text, and whether the tokenizer adds its special tokens."""
    message = prompt.text + prompt.question
    if not prompt.chat or not getattr(tokenizer, "chat_template", None):
        return "\n".join(part for part in (message, prompt.cue) if part), 0, True
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:
        raise AttentionError(
            f"the chat template of the tokenizer is not applied: {error}",
            "Install what it names, or set tokenizer.chat_template = None.",
        ) from error
    start = text.find(message)
    if start < 0:
        raise AttentionError(
            f"the chat template of the tokenizer changes the message of {prompt.name!r}, so its words are not found again.",
            "Set tokenizer.chat_template = None.",
        )
    return text + prompt.cue, start, False


def _numbers(ends: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """Returns the number of the span that holds each character, or that is last before it. Spans without any have none."""
    starts = [first for first, _ in spans]
    found = torch.tensor([max(bisect_right(starts, end) - 1, 0) for end in ends])
    return found.unique(return_inverse=True)[1]


def _answer(answer: str, text: str, tokenizer: Any) -> tuple[list[int], *tuple[int, ...]]:
    """Returns the white space between the text and an answer, as tokens, and then the tokens of the answer."""
    joint = answer if text[-1].isspace() else f" {answer}"
    before, both = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, text + joint))
    if both[: len(before)] != before:
        before, both = [], tokenizer(joint, add_special_tokens=False)["input_ids"]
    tokens = both[len(before) :]
    lead = next(place for place, token in enumerate(tokens) if tokenizer.decode([token]).strip())
    return tokens[:lead], *tokens[lead:]
