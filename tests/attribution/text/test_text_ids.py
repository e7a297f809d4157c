"""The ids of a text: strings that have their special tokens, conversations, and ids."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
import transformers
from captum.attr import TextTokenInput

import attnchain_interp as ac

from .. import small_models as small
from .texts import DECODER, ENCODER, SEQ2SEQ, TEXT, VOCABULARY, t5

TALK = [{"role": "user", "content": "the cat sat"}]


def tokens(method: Any, text: Any, tokenizer: Any, **options: Any) -> list[str]:
    return method.attribute_text(text, options.pop("target", "a dog"), tokenizer, **options).input_tokens


def test_special_tokens_that_a_string_has_are_not_added_again() -> None:
    decoder, encoder = ac.MultiBounce(small.llama()), ac.MultiBounce(small.bert())
    assert tokens(decoder, "<s> the cat", DECODER) == ["<s>", "the", "cat"]
    assert tokens(decoder, "the cat", DECODER) == ["<s>", "the", "cat"]
    whole = ["[CLS]", "the", "cat", "[SEP]"]
    for text in ("the cat", "[CLS] the cat", "the cat [SEP]", "[CLS] the cat [SEP]"):
        assert tokens(encoder, text, ENCODER, target=None) == whole
    assert tokens(ac.MultiBounce(t5()), "the cat </s>", SEQ2SEQ) == ["the", "cat", "</s>"]
    assert tokens(decoder, "<s>", DECODER) == ["<s>"]


def test_special_tokens_are_added_or_not_as_the_user_says() -> None:
    method = ac.MultiBounce(small.llama())
    assert tokens(method, "<s> the cat", DECODER, add_special_tokens=True) == ["<s>", "<s>", "the", "cat"]
    assert tokens(method, "<s> the cat", DECODER, add_special_tokens=False) == ["<s>", "the", "cat"]
    assert tokens(method, "the cat", DECODER, add_special_tokens=False) == ["the", "cat"]
    by_class = ac.TextAttribution(method, DECODER).attribute("the cat", "a dog", add_special_tokens=False)
    assert by_class.input_tokens == ["the", "cat"]


def test_ids_and_what_a_tokenizer_returns() -> None:
    method = ac.MultiBounce(small.llama())
    expected = method.attribute_text(TEXT, "a dog", DECODER)
    ids = DECODER.encode(TEXT)
    encodings = [DECODER(TEXT, return_tensors="pt"), DECODER(TEXT), DECODER([TEXT]), {"input_ids": torch.tensor(ids)}]
    for given in (ids, torch.tensor(ids), torch.tensor([ids]), *encodings):
        result = method.attribute_text(given, "a dog", DECODER)
        assert torch.equal(result.token_attr, expected.token_attr)  # type: ignore[arg-type]
        assert result.input_tokens == expected.input_tokens


def chatting(template: Any) -> Any:
    """A tokenizer whose template is a function: jinja2 is not of the version that templates need."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=DECODER.backend_tokenizer, unk_token="[UNK]", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.apply_chat_template = types.MethodType(template, tokenizer)
    return tokenizer


def template(_: Any, messages: Any, tokenize: bool, add_generation_prompt: bool, continue_final_message: bool) -> str:
    assert not tokenize
    assert add_generation_prompt is not continue_final_message
    said = " ".join(f"{message['content']} ." for message in messages)
    return f"<s> {said}" + (" and" if add_generation_prompt else "")


def test_a_conversation_is_put_through_the_chat_template() -> None:
    method, tokenizer = ac.MultiBounce(small.llama()), chatting(template)
    assert tokens(method, TALK, tokenizer) == ["<s>", "the", "cat", "sat", ".", "and"]
    expected = method.attribute_text("<s> the cat sat . and", "a dog", tokenizer)
    assert torch.equal(method.attribute_text(TALK, "a dog", tokenizer).seq_attr, expected.seq_attr)
    assert tokens(method, [*TALK, {"role": "assistant", "content": "a dog"}], tokenizer)[-3:] == ["a", "dog", "."]
    assert len(method.attribute_text(tuple(TALK), tokenizer=tokenizer, max_new_tokens=2).output_tokens) == 2


def test_conversations_without_a_template() -> None:
    def refuses(*_: Any, **__: Any) -> str:
        raise ValueError("tokenizer.chat_template is not set")

    def has_an_old_jinja(*_: Any, **__: Any) -> str:
        raise ImportError("apply_chat_template requires jinja2>=3.1.0")

    def has_no_system_role(*_: Any, **__: Any) -> str:
        raise type("TemplateError", (Exception,), {})("System role not supported")  # as jinja2's raise_exception

    method = ac.MultiBounce(small.llama())
    for broken in (refuses, has_an_old_jinja, has_no_system_role):
        with pytest.raises(ac.AttentionError, match=r"(?s)apply_chat_template does not take them: .*pass one string"):
            method.attribute_text(TALK, "a dog", chatting(broken))
    with pytest.raises(ac.AttentionError, match="Install that version of jinja2"):
        method.attribute_text(TALK, "a dog", chatting(has_an_old_jinja))

    class Plain:
        __call__ = encode = decode = convert_ids_to_tokens = DECODER.encode

    with pytest.raises(ac.AttentionError, match="Plain has no apply_chat_template"):
        method.attribute_text(TALK, "a dog", Plain())


def test_texts_that_are_no_text() -> None:
    method = ac.MultiBounce(small.llama())
    for several in ([TALK, TALK], torch.ones(2, 3).long(), DECODER(["the", "the"], return_tensors="pt"), [[1, 2], [3, 4]]):
        with pytest.raises(ac.AttentionError, match="text is 2 texts; attribute them one by one"):
            method.attribute_text(several, "a dog", DECODER)  # type: ignore[arg-type]
    for other in (3.5, torch.ones(3), [], [True]):
        with pytest.raises(ac.AttentionError, match="It must be a string, a list of messages"):
            method.attribute_text(other, "a dog", DECODER)  # type: ignore[arg-type]
    padded = {"input_ids": [[0, 5, 7]], "attention_mask": [[0, 1, 1]]}
    with pytest.raises(ac.AttentionError, match=r"(?s)the encoding masks some of its tokens.*without padding"):
        method.attribute_text(padded, "a dog", DECODER)
    for name, value in (("token_type_ids", [[0, 0, 1]]), ("pixel_values", torch.ones(1, 3, 4, 4))):
        with pytest.raises(ac.AttentionError, match=rf'(?s)has {name}, .*model_kwargs=\{{"{name}": encoding\["{name}"\]\}}'):
            method.attribute_text({"input_ids": [5, 7, 8], name: value}, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="text holds 'ids', and no 'input_ids'"):
        method.attribute_text({"ids": [5]}, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match=r"Put the message into a list: \[text\]"):
        method.attribute_text(TALK[0], "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match=r"Write \[method\.attribute_text\(each, …\) for each in text\]"):
        method.attribute_text([TEXT, TEXT], "a dog", DECODER)  # type: ignore[arg-type]
    for given in ([5, 7], TextTokenInput(TEXT, DECODER)):
        with pytest.raises(ac.AttentionError, match="add_special_tokens=True is for a string"):
            method.attribute_text(given, "a dog", DECODER, add_special_tokens=True)
    with pytest.raises(ac.AttentionError, match="text holds the token number -1"):
        method.attribute_text([5, -1], "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="tokenizer is None. A text needs"):
        method.attribute_text([VOCABULARY["the"]], "a dog")
