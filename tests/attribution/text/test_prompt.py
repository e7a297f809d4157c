"""Prompts: words, Captum's input, texts that are refused."""

from __future__ import annotations

import pytest
import torch
from captum.attr import TextTemplateInput, TextTokenInput

import attnchain_interp as ac

from .. import small_models as small
from .texts import DECODER, ENCODER, TEXT, tokenizer


def test_words_are_the_sums_of_their_tokens() -> None:
    method = ac.MultiBounce(small.llama())
    text = "The unhappy cats sat walking."
    tokens = method.attribute_text(text, "a dog", DECODER)
    words = tokens.by_word()
    assert tokens.input_tokens == ["<s>", "the", "un", "##happy", "cat", "##s", "sat", "walk", "##ing", "."]
    assert words.input_tokens == ["<s>", "the", "unhappy", "cats", "sat", "walking", "."]
    assert tokens.token_attr is not None
    assert words.token_attr is not None
    groups = [[0], [1], [2, 3], [4, 5], [6], [7, 8], [9]]
    expected = torch.stack([tokens.token_attr[:, group].sum(1) for group in groups], 1)
    assert torch.allclose(words.token_attr, expected)
    assert torch.equal(words.output_attr, tokens.output_attr)  # type: ignore[arg-type]
    of_input = method.attribute_text(TextTokenInput(text, DECODER, skip_tokens=["<s>", "un"]), "a dog").by_word()
    assert of_input.input_tokens == ["the", "happy", "cats", "sat", "walking", "."]
    assert torch.allclose(of_input.seq_attr[1], tokens.seq_attr[3])


def test_captums_own_input() -> None:
    model = small.bert()
    whole = ac.TokenRank(model).attribute_text(TEXT, tokenizer=ENCODER)
    inp = TextTokenInput(TEXT, ENCODER, skip_tokens=["[CLS]", "[SEP]"])
    inp.values = [value.upper() for value in inp.values]
    result = ac.TokenRank(model).attribute_text(inp)
    assert result.inp is inp
    assert result.input_tokens == ["THE", "CAT", "##S", "SAT", "ON", "THE", "MAT", "."]
    assert torch.equal(result.seq_attr, whole.seq_attr[1:-1]), "skipped tokens are read, and not scored"


def test_bad_texts() -> None:
    method = ac.MultiBounce(small.llama())
    with pytest.raises(ac.AttentionError, match="text is 2 texts; attribute them one by one"):
        method.attribute_text([TEXT, TEXT], "a dog", DECODER)  # type: ignore[arg-type]
    for other in (3, TextTemplateInput("{}", ["a"])):
        with pytest.raises(
            ac.AttentionError, match=r"It must be a string, a list of messages .*, token ids, or a captum TextTokenInput"
        ):
            method.attribute_text(other, "a dog", DECODER)  # type: ignore[arg-type]
    for empty in ("", " \n"):
        with pytest.raises(ac.AttentionError, match="an empty prompt"):
            method.attribute_text(empty, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="skip_tokens skips all"):
        method.attribute_text(TextTokenInput("the", tokenizer(), skip_tokens=["the"]), "a dog")
    with pytest.raises(ac.AttentionError, match="tokenizer is None. A text needs"):
        method.attribute_text(TEXT, "a dog")
    with pytest.raises(ac.AttentionError, match="text takes 41 tokens but LlamaForCausalLM has positions for 32"):
        method.attribute_text("the " * 40, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="made without a model"):
        ac.MultiBounce().attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match=r"text takes 41 tokens but BertForSequenceClassification"):
        ac.TokenRank(small.bert()).attribute_text("the " * 39, tokenizer=ENCODER)
    few = small.llama()
    few.resize_token_embeddings(10)
    with pytest.raises(
        ac.AttentionError, match="text holds token numbers from 5 to 17, but LlamaForCausalLM has tokens 0 to 9"
    ):
        ac.MultiBounce(few).attribute_text(TEXT, "the", DECODER)
