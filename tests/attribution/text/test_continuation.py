"""Targets: given in every form, generated, refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac
from attnchain_interp.attribution.text.continuation import generated, generation_options

from .. import small_models as small
from .texts import DECODER, ENCODER, TEXT, bytes_tokenizer, rows_of


def test_a_model_that_generates() -> None:
    model = small.llama()
    expected = model.generate(torch.tensor([DECODER.encode(TEXT)]), max_new_tokens=4, do_sample=False)[0, 9:].tolist()
    result = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=4)
    given = ac.MultiBounce(model).attribute_text(TEXT, expected, DECODER)
    assert torch.equal(rows_of(result), rows_of(given))
    model.generation_config.eos_token_id = expected[1]
    stopped = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=4)
    ended = expected.index(expected[1]) + 1
    assert torch.allclose(rows_of(stopped)[:, :9], rows_of(result)[:ended, :9])


def test_strings_that_end_a_text() -> None:
    tokenizer: Any = bytes_tokenizer()
    options: dict[str, Any] = {**small.BERT, "vocab_size": len(tokenizer), "num_hidden_layers": 1, "eos_token_id": None}
    model = small.sharpened(transformers.LlamaForCausalLM(transformers.LlamaConfig(**options)))
    wrapped, letters = ac.TextAttribution(ac.MultiBounce(model), tokenizer), tokenizer.encode("abcdefgh")
    only = {"max_new_tokens": 6, "suppress_tokens": [k for k in range(len(tokenizer)) if k not in letters]}
    whole = wrapped.attribute("The cat", gen_args=only).output_tokens
    assert len(whole) == 6
    end = "".join(whole[:2])
    assert wrapped.attribute("The cat", gen_args={**only, "stop_strings": [end]}).output_tokens == whole[:2]
    config: Any = model.generation_config
    config.stop_strings = [end]
    assert wrapped.attribute("The cat", gen_args=only).output_tokens == whole[:2]


def test_arguments_that_would_be_passed_over() -> None:
    wrapped = ac.TextAttribution(ac.MultiBounce(small.llama()), DECODER)
    settings = {"generation_config": transformers.GenerationConfig(max_new_tokens=2), "max_length": 12}
    for name, value in {**settings, "num_return_sequences": 2, "attention_mask": torch.ones(1, 9)}.items():
        with pytest.raises(ac.AttentionError, match=f"(?s)gen_args holds {name}; .*by their names"):
            wrapped.attribute(TEXT, gen_args={name: value})
    with pytest.raises(ac.AttentionError, match="(?s)does not take these gen_args: .*max_new_tokenz"):
        wrapped.attribute(TEXT, gen_args={"max_new_tokens": 2, "max_new_tokenz": 2})
    assert len(wrapped.attribute(TEXT, gen_args={"max_new_tokens": 2, "num_return_sequences": 1}).output_tokens) == 2


def test_an_error_of_the_model_is_not_laid_on_gen_args() -> None:
    class Broken(transformers.LlamaForCausalLM):
        def forward(self, *_: Any, **__: Any) -> Any:
            raise ValueError("a mistake of the model")

    model: Any = Broken(small.llama().config).eval()
    prompt = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="^a mistake of the model$"):
        generated(model.generate, prompt, generation_options(model, None, None))


def test_targets_in_every_form() -> None:
    method = ac.MultiBounce(small.llama())
    numbers = DECODER.encode("a dog", add_special_tokens=False)
    expected = rows_of(method.attribute_text(TEXT, "a dog", DECODER))
    for target in (numbers, tuple(numbers), torch.tensor(numbers)):
        assert torch.equal(rows_of(method.attribute_text(TEXT, target, DECODER)), expected)
    assert method.attribute_text(TEXT, [59], DECODER).output_tokens == ["token 59"], "the tokenizer has fewer than the model"
    alone = rows_of(method.attribute_text(TEXT, numbers[0], DECODER))
    assert alone.shape == (1, 10)
    assert torch.allclose(alone[0, :9], expected[0, :9])


def test_bad_targets() -> None:
    method = ac.MultiBounce(small.llama())
    for empty in ("", [], torch.tensor([], dtype=torch.long)):
        with pytest.raises(ac.AttentionError, match="has no tokens; give at least one"):
            method.attribute_text(TEXT, empty, DECODER)
    for other in (1.5, True, [True], torch.ones(2), [[1, 2]], {"a": 1}, [[1], [2, 3]]):
        with pytest.raises(ac.AttentionError, match="it is the text after the prompt"):
            method.attribute_text(TEXT, other, DECODER)  # type: ignore[arg-type]
    for out in (60, -1, [3, 60]):
        with pytest.raises(ac.AttentionError, match="target holds token numbers .* LlamaForCausalLM has tokens 0 to 59"):
            method.attribute_text(TEXT, out, DECODER)
    with pytest.raises(ac.AttentionError, match="text and target takes 33 tokens"):
        method.attribute_text(TEXT, tokenizer=DECODER)
    assert method.attribute_text(TEXT, "the " * 24, DECODER).token_attr is not None, "the last token is not read"
    for number in (0, 2.5, True):
        with pytest.raises(ac.AttentionError, match="max_new_tokens is"):
            method.attribute_text(TEXT, tokenizer=DECODER, max_new_tokens=number)  # type: ignore[arg-type]
        with pytest.raises(ac.AttentionError, match="internal_batch_size is"):
            method.attribute_text(TEXT, "a", DECODER, internal_batch_size=number)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="target is a string, and BertForSequenceClassification outputs no text"):
        ac.TokenRank(small.bert()).attribute_text(TEXT, "a dog", ENCODER)
    with pytest.raises(ac.AttentionError, match="target=9 cannot be selected"):
        ac.GradientAttention(small.bert()).attribute_text(TEXT, 9, ENCODER)
