from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attnchain_evals.tasks.examples import Passage
from attnchain_evals.tasks.prompt_tokens import passage_of
from attnchain_evals.tasks.prompts import Prompt
from attnchain_interp import AttentionError

from ..published_texts import ChatTokenizer, byte_tokenizer, text_of

FACT = Prompt("0", "Rome is in", "Italy", ((0, 4),))
ASKED = Prompt(
    "1", "A dog ran. It bit.", "17 times", ((14, 17),), ((0, 11), (11, 18)), "\n\nQuestion: How often?", "Answer:", chat=True
)


def grouped(tokenizer: Any, found: Passage, numbers: torch.Tensor) -> list[str]:
    return [text_of(tokenizer, found.input_ids, numbers == number) for number in range(-1, int(numbers.max()) + 1)]


def test_a_fact() -> None:
    tokenizer = byte_tokenizer(begin=True)
    found = passage_of(FACT, tokenizer)
    assert found.words is not None
    assert found.evidence is not None
    assert found.sentences is None
    assert tokenizer.decode(found.input_ids.tolist()) == "<s>Rome is in "
    assert grouped(tokenizer, found, found.words) == ["<s> ", "Rome ", "is ", "in"], "neither the start nor the last token"
    assert text_of(tokenizer, found.input_ids, found.evidence) == "Rome"
    assert found.answer is not None
    assert tokenizer.decode([found.answer]) == "I", "the white space before it belongs to the prompt"


@pytest.mark.parametrize("chat", [False, True])
def test_a_question(chat: bool) -> None:
    tokenizer = byte_tokenizer(chat=chat)
    found = passage_of(ASKED, tokenizer)
    assert found.words is not None
    assert found.sentences is not None
    assert found.evidence is not None
    message = "A dog ran. It bit.\n\nQuestion: How often?"
    whole = f"<user>{message}<end><model>Answer: " if chat else f"{message}\nAnswer: "
    assert tokenizer.decode(found.input_ids.tolist()) == whole
    assert grouped(tokenizer, found, found.words)[1:] == ["A ", "dog ", "ran. ", "It ", "bit."]
    assert grouped(tokenizer, found, found.sentences)[1:] == ["A dog ran. ", "It bit."]
    assert text_of(tokenizer, found.input_ids, found.evidence) == "bit"
    assert found.answer is not None
    assert tokenizer.decode([found.answer]) == "1"


def test_the_last_token_is_not_ranked_where_no_white_space_follows() -> None:
    tokenizer = byte_tokenizer()
    found = passage_of(Prompt("0", "1+1=\n", "2", ((4, 5),)), tokenizer)
    assert found.words is not None
    assert found.evidence is not None
    assert found.words.tolist() == [0, 0, 0, 0, -1]
    assert not found.evidence.any(), "evidence that is not ranked is none"


def test_what_is_refused() -> None:
    class Slow(SimpleNamespace):
        def __call__(self, text: str, **options: Any) -> Any:
            if "return_offsets_mapping" in options:
                raise NotImplementedError("no offsets")
            return {"input_ids": [1]}

    class Trims(ChatTokenizer):
        def apply_chat_template(self, conversation: Any, *_: Any, **named: Any) -> Any:
            return conversation[0]["content"].replace("dog", "cat")

    class Fails(ChatTokenizer):
        def apply_chat_template(self, conversation: Any, *_: Any, **named: Any) -> Any:
            raise ImportError("jinja2>=3.1.6")

    with pytest.raises(AttentionError, match="(?s)Slow does not say which characters.*fast tokenizer"):
        passage_of(FACT, Slow())
    inner = byte_tokenizer()._tokenizer
    with pytest.raises(AttentionError, match="changes the message of '1'"):
        passage_of(ASKED, Trims(tokenizer_object=inner))
    with pytest.raises(AttentionError, match=r"(?s)is not applied: jinja2>=3\.1\.6.*chat_template = None"):
        passage_of(ASKED, Fails(tokenizer_object=inner))
    with pytest.raises(AttentionError, match="'0' has no token to rank"):
        passage_of(Prompt("0", "\n", "2", ()), byte_tokenizer())
