"""Prompts of published data sets, in characters: before a tokenizer cuts them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, final

Span = tuple[int, int]
"""The first character, and the one behind the last."""
Part = Literal["validation", "test"]


@final
@dataclass(frozen=True)
class Prompt:
    """A prompt whose answer, and whose evidence for it, are known.

    Attributes:
        name: of the example in its file.
        text: the part of the prompt that an attribution ranks.
        answer: what a right answer begins with.
        evidence: the spans of `text` that hold the evidence.
        sentences: the spans of the sentences of `text`; none where they are not asked about.
        question: stands behind the text and is not ranked.
        cue: begins the answer: "Answer:".
        chat: the prompt is a message of a user, for a tokenizer that has a chat template.
        group: examples of one group are in one part of the data; the name when empty.
    """

    name: str
    text: str
    answer: str
    evidence: tuple[Span, ...]
    sentences: tuple[Span, ...] = ()
    question: str = ""
    cue: str = ""
    chat: bool = False
    group: str = ""

    @property
    def part(self) -> Part:
        """The part of the data: see `part_of`."""
        return part_of(self.group or self.name)


def part_of(group: str) -> Part:
    """Returns "validation" for a third of all groups, those whose sha256 as a number is divisible by 3, else "test".

    >>> [part_of(str(number)) for number in range(2, 5)]
    ['validation', 'test', 'validation']
    """
    return "test" if int(hashlib.sha256(group.encode()).hexdigest(), 16) % 3 else "validation"


def occurrences(part: str, text: str) -> tuple[Span, ...]:
    """Returns the spans at which whole words of a text are these.

    >>> occurrences("Ann", "Ann met Anna. Ann left.")
    ((0, 3), (14, 17))
    """
    return tuple(found.span() for found in re.finditer(rf"(?<!\w){re.escape(part)}(?!\w)", text))
