"""Where the messages of a conversation stand in its text, whatever a template says beside them."""

from __future__ import annotations

import types
from typing import Any

import pytest
from tokenizers import decoders, normalizers

from attnchain_interp.attribution.text.conversation import conversation_of
from attnchain_interp.attribution.text.prompt import prompt_of

from .texts import bytes_tokenizer, unsplit_tokenizer

KIND = "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n"


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def smol(messages: Any) -> str:
    """As that of SmolLM2: a system prompt of its own, and messages as they are."""
    said = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    return (KIND if messages[0]["role"] != "system" else "") + said + "<|im_start|>assistant\n"


def rewriting(messages: Any) -> str:
    """Leaves out thoughts and spaces around a message."""
    return smol([{**each, "content": each["content"].split("</think>")[-1].strip()} for each in messages])


def hoisting(messages: Any) -> str:
    """Puts the first message before the last one, and says it once more at the end."""
    return smol([*messages[1:-1], messages[0], messages[-1], messages[0]])


def by_kind(messages: Any) -> str:
    """Has other pieces for words, so that numbers in their place tell nothing."""
    return smol(messages) if all(each["content"].isdigit() for each in messages) else f"[words] {smol(messages)}"


def chatting(template: Any, tokenizer: Any) -> Any:
    def apply_chat_template(_: Any, messages: Any, **options: Any) -> str:
        return template(messages)

    tokenizer.apply_chat_template = types.MethodType(apply_chat_template, tokenizer)
    return tokenizer


def said(messages: Any, template: Any, tokenizer: Any = None) -> list[str]:
    """Returns the text of the tokens that are no template, message by message."""
    read = prompt_of(messages, chatting(template, tokenizer or bytes_tokenizer())).spelling
    kept = ["\0" if own else piece for piece, own in zip(read.pieces, read.template, strict=True)]
    return [part for part in "".join(kept).split("\0") if part]


@pytest.mark.parametrize("content", ["help", "I", "a", "assistant", "user", "You", "<|im_end|>x", "help\n\nme", "7"])
def test_a_message_that_the_template_says_too(content: str) -> None:
    expected = [part for part in content.split("<|im_end|>") if part]
    assert said([user(content)], smol) == expected
    answered = [user(content), {"role": "assistant", "content": "a"}, user(content)]
    assert said(answered, smol) == [*expected, "a", *expected]


def test_messages_that_the_template_rewrites_or_moves() -> None:
    talk = [user(" help "), {"role": "assistant", "content": "<think>an aim</think> I do"}, user("I?")]
    assert said(talk, rewriting) == ["help", "I do", "I?"]
    assert said([user("be kind"), user("I"), user("help")], hoisting) == ["I", "be kind", "help", "be kind"]


def test_a_message_that_is_not_found_is_no_template() -> None:
    content = "help"
    assert conversation_of([user(content)], chatting(by_kind, bytes_tokenizer())) is None
    assert content in said([user(content)], by_kind)[-1]
    assert conversation_of("help", bytes_tokenizer()) is None
    assert conversation_of([{"role": "user", "content": [{"type": "text", "text": "help"}]}], bytes_tokenizer()) is None


def test_a_tokenizer_that_changes_letters() -> None:
    """As uncased ones do. The template's own system prompt is no content."""

    def uncased(unknown: bool) -> Any:
        made = bytes_tokenizer()
        steps = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        steps += [normalizers.Replace("☃", "?")] * unknown
        made.backend_tokenizer.normalizer = normalizers.Sequence(steps)
        return made

    talk = [user("Élise, help me ☃ now"), {"role": "assistant", "content": "I DO"}, user("You")]
    assert said(talk, smol, uncased(False)) == ["elise, help me ☃ now", "i do", "you"]
    assert said(talk, smol, uncased(True)) == ["elise, help me ? now", "i do", "you"]


def test_a_tokenizer_that_changes_spaces() -> None:
    unsplit = unsplit_tokenizer()
    unsplit.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )

    def plain(messages: Any) -> str:
        return "the cats " + " the ".join(each["content"] for each in messages) + " the cats"

    assert [part.strip() for part in said([user("cats"), user("the  cats")], plain, unsplit)] == ["cats", "the  cats"]
