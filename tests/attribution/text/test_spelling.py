"""Pieces that join to the text, words, sentences and parts, and what belongs to a template."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from tokenizers import decoders

import attnchain_interp as ac
from attnchain_interp.attribution.text.conversation import Conversation
from attnchain_interp.attribution.text.spelling import Spelling, spelling_of

from .texts import ENCODER, TEXT, bytes_tokenizer, unsplit_tokenizer

BYTES = bytes_tokenizer()
MIXED = "It's 🙂 in 巴黎。 Café, naïve e\u0301!\n\nשלום עולם"
CHAT = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nthe user asks<|im_end|>\n<|im_start|>assistant\n"


def read(text: str, tokenizer: Any = BYTES, conversation: Conversation | None = None) -> Spelling:
    return spelling_of(tokenizer.encode(text), tokenizer, conversation)


def grouped(found: Spelling, spans: Any) -> list[str]:
    return found.joined(found.groups(spans)).pieces


@pytest.mark.parametrize("text", [MIXED, CHAT, " a", "🙂", "\n", "a\u202eb"])
def test_pieces_join_to_the_text(text: str) -> None:
    found = read(text)
    assert found.text == text
    assert len(found.pieces) == len(BYTES.encode(text))
    assert not any("Ġ" in piece or "\ufffd" in piece for piece in found.pieces)


def test_pieces_of_other_tokenizers() -> None:
    llama = unsplit_tokenizer()
    llama.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    assert read("the cats", llama).pieces == ["the", " cat", "s"]
    found = read(TEXT, ENCODER)
    assert found.template == [True, *[False] * 8, True]
    assert [piece.strip() for piece in found.pieces[1:4]] == ["the", "cat", "s"]
    assert [piece.strip() for piece in grouped(found, "word")] == ["the", "cats", "sat", "on", "the", "mat", "."]


def test_words_sentences_and_passages() -> None:
    found = read(MIXED)
    words = [word.strip() for word in grouped(found, "word")]
    assert words == ["It's", "🙂", "in", "巴", "黎", "。", "Café", ",", "naïve", "e\u0301", "!", "שלום", "עולם"]
    assert [each.strip() for each in grouped(found, "sentence")] == ["It's 🙂 in 巴黎。", "Café, naïve e\u0301!", "שלום עולם"]
    assert [each.strip() for each in grouped(found, "passage")] == ["It's 🙂 in 巴黎。 Café, naïve e\u0301!", "שלום עולם"]
    for name in ("word", "sentence", "passage"):
        assert sorted(k for group in found.groups(name) for k in group) == list(range(len(found.pieces))), name


@pytest.mark.parametrize(
    "words",
    [
        ["मानक", "हिन्दी", "।"],  # vowel signs that take a place of their own
        ["தமிழ்", "ক্ষেত্র"],
        ["می\u200cخواهم", "!"],
        ["👩\u200d👧\ufe0f", "x\u0301y"],
        ["か\u3099", "き", "!"],
    ],
)
def test_words_of_scripts_with_marks_and_joiners(words: list[str]) -> None:
    text = "".join(words) if "き" in words else " ".join(words)
    assert [word.strip() for word in grouped(read(text), "word")] == words


def test_bytes_that_a_tokenizer_leaves_out_until_they_are_a_character() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    found = read(MIXED, tokenizer)
    assert found.text == MIXED + "</s>"
    words = [word.strip() for word in grouped(found, "word")]
    assert words == [word.strip() for word in grouped(read(MIXED), "word")]


def test_parts_in_order_of_the_text() -> None:
    found = read("to be or not to be")
    assert found.groups(["to", "to be"]) == [[0, 1], [13, 14, 15, 16, 17]]
    assert found.groups([(0, 2), (3, 5)]) == [[0, 1], [3, 4]]
    for bad, message in (
        (["nowhere"], "does not hold the span 'nowhere'"),
        ([""], "does not hold the span"),
        ([(2, 2)], "hold no token"),
        ([(1, 2, 3)], "features holds"),
        ("line", "features='line' is unknown"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            found.groups(bad)  # type: ignore[arg-type]


def template(found: Spelling) -> str:
    return "".join(piece for piece, own in zip(found.pieces, found.template, strict=True) if own)


def test_a_template_is_special_tokens_with_their_roles_or_what_messages_do_not_say() -> None:
    parts = "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    assert template(read(CHAT)) == "".join(parts)
    first = CHAT.index("the user asks")
    asks = Conversation(CHAT, [(first - 1, first + len("the user asks"))])
    assert template(read(CHAT, conversation=asks)) == CHAT.replace("the user asks", "")
    assert template(read(f"\n{CHAT} Yes", conversation=asks)) == f"\n{CHAT} Yes".replace("the user asks", "")
    assert template(read(CHAT[9:], conversation=asks)) == template(read(CHAT[9:])), "another text"
    assert template(read("<|im_start|>user stories")) == "<|im_start|>"
    assert template(read("user\nsystem")) == ""
    assert grouped(read(CHAT), "sentence") == ["Be kind.", "the user asks"]


def test_an_unknown_word_is_text_unless_its_token_has_another_meaning() -> None:
    found = read("a dog 🙂 sat.", ENCODER)
    assert [template for piece, template in zip(found.pieces, found.template, strict=True) if "UNK" in piece] == [False]
    assert len(grouped(found, "sentence")) == 1
    assert found.template[0]
    both = bytes_tokenizer()
    both.unk_token = both.eos_token = "<|im_end|>"  # as GPT-2 has one token for both
    assert read("a<|im_end|>", both).template == [False, True]


def test_a_unit_that_ends_with_a_line_break_is_a_unit_of_its_own() -> None:
    """As the sentences of a result, and the token of a full stop with a line break behind it."""
    for pieces in (["It rained.\n\n", "Question: why?\n", "Answer:"], ["a", ".\n\n", "Question"]):
        words = Spelling(pieces, [False] * len(pieces)).groups("word")
        assert words == [[k] for k in range(len(pieces))]
    assert Spelling(["\n", "Word", "s"], [False] * 3).groups("word") == [[0, 1, 2]], "a space of its own is not a unit"


def test_empty_pieces_hide_no_border() -> None:
    """The first bytes of a character are a piece without text."""
    assert Spelling(["", "4", "2", " cats", " sat"], [False] * 5).groups("word") == [[0, 1, 2], [3], [4]]
    assert Spelling(["It rained.\n", "", "A"], [False] * 3).groups("word") == [[0], [1, 2]]
    assert Spelling(["a", "", "b"], [False, True, False]).groups("word") == [[0], [2]]
