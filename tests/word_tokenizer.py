"""A tokenizer of whole words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def word_tokenizer(words: Sequence[str], unknown: str = "[UNK]", **named: Any) -> PreTrainedTokenizerFast:
    """Returns a tokenizer that numbers these words in their order. `named` are those of transformers."""
    inner: Any = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unknown))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=unknown, **named)
