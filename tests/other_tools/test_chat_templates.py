"""Chat templates of transformers. They need a newer jinja2 than pygpcca accepts, so .ci/run has an environment for it."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
import torch

import attnchain_interp as ac

if tuple(int(part) for part in jinja2.__version__.split(".")[:2]) < (3, 1):
    pytest.skip("jinja2 3.1 is not installed; .ci/run runs this with it", allow_module_level=True)

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %} {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} on{% endif %}"
)


def test_a_conversation_is_read_as_its_template_writes_it(decoder: Any, tokenizer: Any) -> None:
    tokenizer.bos_token, method = "<pad>", ac.TokenRank(decoder)
    talk = [{"role": "user", "content": "the cat"}, {"role": "system", "content": "sat"}]
    with pytest.raises(ac.AttentionError, match="apply_chat_template does not take them"):
        method.attribute_text(talk, "mat", tokenizer)
    tokenizer.chat_template = TEMPLATE
    result = method.attribute_text(talk, "mat", tokenizer)
    assert result.input_tokens == ["<pad>", "the", "cat", "sat", "on"]
    encoding = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    assert torch.equal(method.attribute_text(encoding, "mat", tokenizer).seq_attr, result.seq_attr)
    text = tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
    assert torch.equal(method.attribute_text(text, "mat", tokenizer).seq_attr, result.seq_attr)
    answered = method.attribute_text([*talk, {"role": "assistant", "content": "on"}], "mat", tokenizer)
    assert answered.input_tokens == result.input_tokens, "a last message of the assistant goes on"
