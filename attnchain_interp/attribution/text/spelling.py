"""The text of tokens as a reader sees it: spaces and line breaks, words, sentences, passages, the parts of a chat template."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any, Final, Literal, final

from attnchain_interp.attribution.text.conversation import Conversation, spans_between
from attnchain_interp.attribution.text.sentences import sentences_of
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError

Spans = Literal["word", "sentence", "passage"] | Sequence[str] | Sequence[tuple[int, int]]
"""Words, sentences, passages (between empty lines), parts of the text, or their characters (start, end)."""

_SPANS: Final = 'Use "word", "sentence", "passage", parts of the text, or pairs (start, end).'
_EMPTY_LINES: Final = re.compile(r"\n\s*\n")
_ROLE: Final = re.compile(r"(?:(?:system|user|assistant|model|tool|developer)(?=\n|<|$))?\n?")
_UNFINISHED: Final = "\ufffd"
_JOINERS: Final = {"\u200c", "\u200d"}  # within words of Persian, and within emoji


@final
@dataclass(frozen=True)
class Spelling:
    """The text of the tokens of a prompt or of an output.

    Attributes:
        pieces: one string for each token, with its spaces. Joined, they are the text. A character of several tokens belongs
            to the last of them.
        template: whether each token is a special token, or belongs to a chat template.
    """

    pieces: list[str]
    template: list[bool]

    @classmethod
    def spaced(cls, tokens: Sequence[str]) -> Spelling:
        """Returns the spelling of tokens with a space between them."""
        return cls([f" {token}" if k else token for k, token in enumerate(tokens)], [False] * len(tokens))

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def _borders(self) -> list[int]:
        """The characters at which tokens begin, and the end of the text."""
        return [0, *accumulate(map(len, self.pieces))]

    def joined(self, groups: Sequence[Sequence[int]]) -> Spelling:
        """Returns the spelling of groups of tokens."""
        pieces = ["".join(self.pieces[k] for k in group) for group in groups]
        return Spelling(pieces, [all(self.template[k] for k in group) for group in groups])

    def groups(self, spans: Spans) -> list[list[int]]:
        """Returns the tokens of each span. A token belongs to the span that holds its first character that is not a space.

        Words, sentences and passages have no tokens of a template.
        """
        named = isinstance(spans, str)
        if not isinstance(spans, Sequence):
            raise AttentionError(f"features is of type {type(spans).__name__}.", _SPANS)
        if named:
            check_one_of("features", spans, ("word", "sentence", "passage"))
        marks = self._words() if spans == "word" else list(self._marks(spans))
        spaces = [len(piece) - len(piece.lstrip()) if piece.strip() else 0 for piece in self.pieces]
        firsts = [start + space for start, space in zip(self._borders, spaces, strict=False)]
        held = [[k for k, first in enumerate(firsts) if start <= first < end] for start, end in marks]
        if named:
            return [kept for group in held if (kept := [k for k in group if not self.template[k]])]
        if empty := [self.text[start:end] for (start, end), group in zip(marks, held, strict=True) if not group]:
            raise AttentionError(f"the spans {empty} hold no token of the text.", "Give spans of the prompt.")
        return held

    def _words(self) -> list[tuple[int, int]]:
        text, begins, before, apart = self.text, list[int](), "", True
        for start, piece, template in zip(self._borders, self.pieces, self.template, strict=False):
            apart |= template or (before[-1:].isspace() and bool(before.strip()))
            if not piece:
                continue
            if apart or _is_border(text, start):
                begins.append(start)
            before, apart = piece, template
        return list(zip(begins, [*begins[1:], len(text)], strict=False))  # none of an empty text

    def _marks(self, spans: Spans) -> Iterator[tuple[int, int]]:
        text, at = self.text, 0
        if isinstance(spans, str):
            if spans == "sentence":
                begins = [start for start, _ in sentences_of(text, self._cased)]
            else:
                begins = [match.end() for match in _EMPTY_LINES.finditer(text)]
            borders = sorted({0, len(text), *begins, *self._template_borders()})
            yield from pairwise(borders)
            return
        for span in spans:
            if isinstance(span, str):
                found = text.find(span, at)
                found = text.find(span) if found < 0 else found
                if found < 0 or not span.strip():
                    raise AttentionError(f"the text does not hold the span {span!r}.", "Give parts of the prompt.")
                yield found, (at := found + len(span))
            elif isinstance(span, Sequence) and len(span) == 2 and all(isinstance(place, int) for place in span):
                yield span
            else:
                raise AttentionError(f"features holds {span!r}.", _SPANS)

    @property
    def _cased(self) -> bool:
        said = (piece for piece, template in zip(self.pieces, self.template, strict=True) if not template)
        return any(character.isupper() for piece in said for character in piece)

    def _template_borders(self) -> Iterator[int]:
        for borders, template in zip(pairwise(self._borders), self.template, strict=True):
            if template:
                yield from borders


def spelling_of(ids: Sequence[int], tokenizer: Any, conversation: Conversation | None = None) -> Spelling:
    """Returns the spelling of token ids.

    A template is what the messages of a conversation do not say. Without a conversation, or where its text is not that of the
    tokens, it is every special token, with the role and the line break that follow it.

    Args:
        ids: of a text.
        tokenizer: of the text.
        conversation: of which the tokens are.
    """
    pieces = list(_pieces(ids, tokenizer))
    special = _special(tokenizer)
    starts, text = [0, *accumulate(map(len, pieces))], "".join(pieces)
    template = [number in special for number in ids]
    marks = [] if conversation is None else _said(conversation, text)
    for k, (start, end) in enumerate(pairwise(starts)):
        if marks:
            template[k] |= not any(begin < end and start < last for begin, last in marks)
        elif template[k] and (match := _ROLE.match(text, end)) is not None:
            for following in range(k + 1, bisect_left(starts, match.end())):
                template[following] = True
    return Spelling(pieces, template)


def _special(tokenizer: Any) -> set[int]:
    """Returns the special tokens. The unknown token stands for a word of the text, unless it is another special token too."""
    found: set[int] = set(getattr(tokenizer, "all_special_ids", ()))
    unknown = getattr(tokenizer, "unk_token_id", None)
    named = list(getattr(tokenizer, "special_tokens_map", {}).values())
    return found - {unknown} if named.count(getattr(tokenizer, "unk_token", None)) == 1 else found


def _said(conversation: Conversation, text: str) -> list[tuple[int, int]]:
    """Returns the spans of the messages in a text that holds the conversation; none in another text.

    White space, capitals and accents may differ. Where a message differs, too, it is what stands between the pieces of the
    template.
    """
    letters, places = _folded(text)
    own, origins = _folded(conversation.text)
    spans: list[tuple[int, int]] | None
    spans = [(bisect_left(origins, start), bisect_left(origins, end)) for start, end in conversation.contents]
    first = letters.find(own)
    if first < 0:
        ends = [0, *chain.from_iterable(spans), len(own)]
        pieces = [own[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)]
        first = max(letters.find(pieces[0]), 0)
        spans = spans_between(letters[first:], pieces, [own[start:end] for start, end in spans])
    return [(places[first + start], places[first + end - 1] + 1) for start, end in spans or () if start < end]


def _folded(text: str) -> tuple[str, list[int]]:
    """Returns the small letters of a text without white space and accents, and the place of each in the text."""
    found = [
        (letter, place)
        for place, character in enumerate(text)
        for letter in unicodedata.normalize("NFKD", character.lower())
        if not (letter.isspace() or unicodedata.combining(letter))
    ]
    return "".join(letter for letter, _ in found), [place for _, place in found]


def _pieces(ids: Sequence[int], tokenizer: Any) -> Iterator[str]:
    """Yields the text of each token in its context: from the token before the last whole character on."""

    def decoded(numbers: Sequence[int]) -> str:
        return tokenizer.decode(list(numbers), clean_up_tokenization_spaces=False)

    begin, done = 0, 0
    for k in range(len(ids)):
        before, whole = decoded(ids[begin:done]), decoded(ids[begin : k + 1])
        unfinished = whole.endswith(_UNFINISHED) or whole == before  # ByT5 spells the bytes of half a character as nothing
        if unfinished and k + 1 < len(ids) and k - done < 8:
            yield ""
            continue
        yield whole.removeprefix(before) if done else whole
        begin, done = done, k + 1


def _is_border(text: str, place: int) -> bool:
    """Returns whether a word ends before a character of the text: at a space, a sign, or a character that is a word."""
    before, after = text[place - 1], text[place]
    if before.isspace() or after.isspace():
        return not before.isspace()
    if _is_mark(after) or {before, after} & _JOINERS:
        return False
    if "W" in (unicodedata.east_asian_width(before), unicodedata.east_asian_width(after)):
        return True
    return not all(each in "'’_" or each.isalnum() or _is_mark(each) for each in (before, after))


def _is_mark(character: str) -> bool:
    """Returns whether a character belongs to the one before it: an accent, or a vowel sign of an Indic script."""
    return unicodedata.category(character).startswith("M")
