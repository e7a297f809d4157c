"""Prompts of published data sets, in characters: before a tokenizer cuts them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, final

Span = tuple[int, int]
"""The first character, and the one behind the last."""
_UNSPACED: Final = (  # Thai, Lao, Tibetan, Burmese; Hangul; Khmer; kana and Han; Hangul; Han; narrow kana and Hangul; Han
    "\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
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
        group: examples of one group are in one part of the data, and are resampled together; the name when empty.
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

    A word also ends beside a character of a script that puts no space there: of Chinese, Japanese, Korean, Thai and the like.

    >>> occurrences("Ann", "Ann met Anna. Ann left.")
    ((0, 3), (14, 17))
    >>> occurrences("日本", "首都は日本の")
    ((3, 5),)
    """
    before = "" if re.match(f"[{_UNSPACED}]", part) else rf"(?<![^\W{_UNSPACED}])"
    behind = "" if re.match(f"[{_UNSPACED}]", part[-1:]) else rf"(?![^\W{_UNSPACED}])"
    return tuple(found.span() for found in re.finditer(before + re.escape(part) + behind, text))
