"""Texts of tokens without the marks of tokenizers."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from attnchain_interp.store.label_texts import label_texts


@pytest.mark.parametrize(
    "text", ["Where is the lion?\n", "שלום עולם", "مرحبا بالعالم", "a 👩‍👧 cafe\u0301 naïve", "日本語 の文"]
)
def test_byte_level_tokens_spell_the_text(text: str) -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(characters, []))
    tokenizer.pre_tokenizer = byte_level
    tokens = tokenizer.encode(f"{text} ").tokens
    assert "".join(label_texts(tokens)) == f"{text} "


def test_other_marks_and_words() -> None:
    assert label_texts(["▁A", "▁lion", "s"]) == [" A", " lion", "s"]
    assert label_texts(["a", "film", "##s", "!"]) == ["a", " film", "s", " !"]
    assert label_texts(["A ", "lion"]) == ["A ", "lion"]
    assert label_texts(["<|im_start|>", "user", "Ċ", "日本"])[0] == "<|im_start|>"
    assert label_texts([]) == []
