"""The texts of labels, which are the names that tokenizers give to tokens."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cache


def label_texts(labels: Sequence[str]) -> list[str]:
    """Returns the texts of the tokens of one text: spaces and line breaks for the marks of tokenizers.

    The marks are those of byte-level tokenizers (GPT-2), of SentencePiece, and of WordPiece. A character of several byte-level
    tokens stands at the last of them. Labels without marks are words, and a space stands between them.

    Args:
        labels: the names of the tokens, in order.

    >>> label_texts(["A", "Ġlion", "Ċ", "ðŁ", "ĺ", "Ģ"])
    ['A', ' lion', '\\n', '', '', '😀']
    >>> label_texts(["un", "##like", "me"])
    ['un', 'like', ' me']
    """
    if any(mark in label for label in labels for mark in "ĠĊ"):
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        known = {character: byte for byte, character in byte_characters().items()}
        return [
            decode(bytes(known[one] for one in label)) if all(one in known for one in label) else label for label in labels
        ]
    if any("▁" in label for label in labels):
        return [label.replace("▁", " ") for label in labels]
    if any(re.search(r"^[ \n]|[ \n]\Z", label) for label in labels):
        return list(labels)
    return [label[2:] if label.startswith("##") else f" {label}" if place else label for place, label in enumerate(labels)]


@cache
def byte_characters() -> dict[int, str]:
    """Returns byte → the character by which byte-level tokenizers write it, as GPT-2 does."""
    own = [byte for byte in range(256) if 32 < byte < 127 or (byte > 160 and byte != 173)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + place) for place, byte in enumerate(others)}
