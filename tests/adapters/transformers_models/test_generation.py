"""The maps of generated text, put together from its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac

from ..transformers_zoo import MEMBERS, build, inputs


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gpt_oss", "mistral"])
@pytest.mark.parametrize("padded", [False, True])
def test_generated_text_is_put_together_from_its_steps(name: str, padded: bool) -> None:
    model, given = causal(name)
    if padded:
        mask = torch.ones_like(given["input_ids"])
        mask[1, :4] = 0
        given["attention_mask"] = mask
    text = model.generate(**given, max_new_tokens=5, do_sample=False)
    store = ac.capture(model.generate, **given, max_new_tokens=5, do_sample=False, keep="maps")
    assert len(store.tokens) == text.shape[1] - 1
    mask = torch.ones_like(text[:, :-1])
    if padded:
        mask[1, :4] = 0
    places: dict[str, Any] = (
        {"position_ids": (mask.cumsum(1) - 1).clamp(0)} if name == "gpt2" else {}
    )  # as `generate` counts them
    whole = ac.capture(model, text[:, :-1], attention_mask=mask, **places, keep="maps")
    rows = mask[:, None, None, :, None].bool()
    assert torch.allclose(store.maps() * rows, whole.maps() * rows, atol=1e-5)
    assert torch.allclose(ac.TokenRank().score(store), ac.TokenRank().score(whole), atol=1e-5)


def causal(name: str) -> tuple[Any, dict[str, Any]]:
    head = transformers.AutoModelForCausalLM._model_mapping
    config = MEMBERS[name]
    kind = head[type(build(config).config)].__name__  # type: ignore[index]
    model = build(replace(config, model=kind))
    model.generation_config.eos_token_id = None
    return model, {"input_ids": inputs(config, model)["input_ids"][:, :8]}


def test_generated_text_keeps_factors_where_they_are_whole() -> None:
    model, given = causal("llama")
    store = ac.capture(model.generate, **given, max_new_tokens=4, do_sample=False, keep="factors")
    maps = ac.capture(model.generate, **given, max_new_tokens=4, do_sample=False, keep="maps")
    assert torch.allclose(store.maps(), maps.maps(), atol=1e-6)


def test_generation_of_an_encoder_decoder() -> None:
    model = build(replace(MEMBERS["bart"], model="BartForConditionalGeneration"))
    given = {"input_ids": inputs(MEMBERS["bart"], model)["input_ids"], "max_new_tokens": 5, "do_sample": False}
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    text = model.generate(**given)
    for kind, shape in (("encoder", (12, 12)), ("decoder", (5, 5)), ("cross", (5, 12))):
        store = ac.capture(model.generate, **given, reading=ac.Reading(kind=kind))
        whole = ac.capture(model, given["input_ids"], decoder_input_ids=text[:, :-1], reading=ac.Reading(kind=kind))
        assert store.maps().shape[-2:] == shape
        assert torch.allclose(store.maps(), whole.maps(), atol=1e-5)


def test_what_ends_early_is_padding_from_there_on() -> None:
    model, given = causal("llama")
    text = model.generate(**given, max_new_tokens=6, do_sample=False)
    model.generation_config.eos_token_id = int(text[0, 9])  # the first example ends with its second new token
    model.generation_config.pad_token_id = 0
    store = ac.capture(model.generate, **given, max_new_tokens=6, do_sample=False)
    expected = (model.generate(**given, max_new_tokens=6, do_sample=False)[:, :-1][:, 8:] != 0) | torch.tensor([False])
    assert torch.equal(store.tokens.mask[:, 8:], expected)


def test_steps_that_do_not_follow_on_one_another_are_refused() -> None:
    model, given = causal("llama")
    with pytest.raises(ac.AttentionError, match="a batch of 4"):
        ac.capture(model.generate, **given, max_new_tokens=4, num_beams=2, do_sample=False)
    with pytest.raises(ac.AttentionError, match="a sliding or static cache, or drafted tokens"):
        ac.capture(model.generate, **given, max_new_tokens=4, cache_implementation="static", do_sample=False)
