"""The maps of generated text, put together from its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac

from ...attribution.text.texts import bytes_tokenizer
from ..transformers_zoo import MEMBERS, build, inputs, sharpen


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
    for layer, other in zip(store, whole, strict=True):
        assert layer.value_norms is not None
        assert other.value_norms is not None
        there = mask[:, None].bool()
        assert torch.allclose(layer.value_norms * there, other.value_norms * there, atol=1e-5)


def causal(name: str, **sizes: Any) -> tuple[Any, dict[str, Any]]:
    head = transformers.AutoModelForCausalLM._model_mapping
    member = MEMBERS[name]
    config = replace(member, config=member.config | sizes)
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
    model = bart()
    given = {"input_ids": inputs(MEMBERS["bart"], model)["input_ids"], "max_new_tokens": 5, "do_sample": False}
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


CACHES: dict[str, dict[str, Any]] = {
    "default": {},
    "static": {"cache_implementation": "static"},
    "none": {"use_cache": False},
    "in chunks": {"prefill_chunk_size": 3},
}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "gpt_oss", "llama", "doge"])
def test_every_cache_shows_the_maps_of_the_finished_text(name: str, cache: str) -> None:
    window = {} if name in ("llama", "doge") else {"sliding_window": 4}  # shorter than the text
    model, given = causal(name, **window)
    options: dict[str, Any] = {**given, "max_new_tokens": 5, "do_sample": False, **CACHES[cache]}
    text = model.generate(**options)
    store = ac.capture(model.generate, **options, keep="maps")
    whole = ac.capture(model, text[:, :-1], keep="maps")
    assert torch.allclose(store.maps(), whole.maps(), atol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "llama", "gpt2"])
def test_padding_beside_a_static_cache(name: str, implementation: str) -> None:
    window = {"sliding_window": 4} if name in ("mistral", "gemma3_text") else {}
    model, given = causal(name, **window)
    model.set_attn_implementation(implementation)
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    ids[1, :3] = mask[1, :3] = 0
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "keep": "maps"}
    whole = ac.capture(model.generate, ids, attention_mask=mask, **options)
    there = whole.tokens.mask
    assert torch.equal(there[:, :8], mask.bool())
    options["cache_implementation"] = "static"
    rows = there[:, None, None, :, None]
    for options["attention_mask"] in (mask, None):
        store = ac.capture(model.generate, ids, **options)
        assert torch.equal(store.tokens.mask, there)
        assert torch.allclose(store.maps() * rows, whole.maps() * rows, atol=1e-6)
        assert torch.allclose(ac.TokenRank().score(store), ac.TokenRank().score(whole), atol=1e-6)
    options |= {"num_return_sequences": 2, "do_sample": True, "attention_mask": mask[1:]}
    assert torch.equal(ac.capture(model.generate, ids[1:], **options).tokens.mask, there[[1, 1]])


def test_a_window_leaves_rows_empty_before_it() -> None:
    model, given = causal("mistral", sliding_window=4)
    store = ac.capture(model.generate, **given, max_new_tokens=4, do_sample=False, layers=0)
    assert store[0].maps[:, :, -1].ne(0).sum(-1).eq(4).all()
    assert store[0].maps[:, :, -1, :-4].eq(0).all()


def test_a_prompt_of_one_token_with_grouped_queries() -> None:
    model, given = causal("llama")
    options: dict[str, Any] = {"input_ids": given["input_ids"][:, :1], "max_new_tokens": 4, "do_sample": False}
    store = ac.capture(model.generate, **options)
    assert torch.allclose(store.maps(), ac.capture(model, model.generate(**options)[:, :-1]).maps(), atol=1e-5)


def test_sampled_texts_are_examples() -> None:
    model, given = causal("llama")
    options: dict[str, Any] = {**given, "max_new_tokens": 4, "do_sample": True, "num_return_sequences": 3}
    torch.manual_seed(1)
    text = model.generate(**options)
    torch.manual_seed(1)
    store = ac.capture(model.generate, **options)
    assert store.batch == 6
    assert torch.allclose(store.maps(), ac.capture(model, text[:, :-1]).maps(), atol=1e-5)
    model, options = bart(), {"input_ids": given["input_ids"], "attention_mask": torch.ones(2, 8).long()}
    options["attention_mask"][1, :3] = 0
    options |= {"max_new_tokens": 4, "do_sample": True, "num_return_sequences": 3}
    cross = ac.capture(model.generate, **options, reading=ac.Reading(kind="cross"))
    assert cross.queries is not None
    assert (cross.batch, cross.queries.batch) == (6, 6)
    assert cross.tokens.mask[:, 0].tolist() == [True] * 3 + [False] * 3
    assert ac.capture(model.generate, **options, reading=ac.Reading(kind="encoder")).batch == 2


def bart() -> Any:
    model = build(replace(MEMBERS["bart"], model="BartForConditionalGeneration"))
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    return model


def whisper(**generation: Any) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {f"{side}_{what}": n for side in ("encoder", "decoder")
                             for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))}  # fmt: skip
    sizes |= {"vocab_size": 60, "d_model": 48, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 30}
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    model: Any = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**sizes, **special)).eval()
    sharpen(model, 0.3)
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    return model


SOUND = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(0))
LANGUAGES: dict[str, Any] = {
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 4, "<|fr|>": 5},
    "task_to_id": {"transcribe": 6, "translate": 7},
    "no_timestamps_token_id": 58,
}


@pytest.mark.parametrize(
    ("languages", "options", "prompt"),
    [
        ({}, {}, 1),
        (LANGUAGES, {}, 3),  # the start, the language that is looked for in a forward of its own, no time stamps
        (LANGUAGES, {"language": "fr", "task": "translate"}, 4),
        (LANGUAGES, {"language": "fr", "prompt_ids": torch.tensor([9, 10])}, 6),
        (LANGUAGES, {"cache_implementation": "static"}, 3),
        (LANGUAGES, {"return_dict_in_generate": True}, 3),
    ],
)
def test_whispers_prompt_is_part_of_the_text(languages: Any, options: Any, prompt: int) -> None:
    model = whisper(**languages)
    options = {"input_features": SOUND, "max_new_tokens": 4, **options}
    text = model.generate(**options | {"return_dict_in_generate": False}, force_unique_generate_call=True)
    for kind in ("decoder", "cross", "encoder"):
        store = ac.capture(model.generate, **options, reading=ac.Reading(kind=kind))
        whole = ac.capture(model, SOUND, decoder_input_ids=text[:, :-1], reading=ac.Reading(kind=kind))
        assert len(store.queries or store.tokens) == (20 if kind == "encoder" else prompt + 3)
        assert torch.allclose(store.maps(), whole.maps(), atol=1e-5)


def test_a_sound_of_several_windows_and_temperatures_are_refused() -> None:
    model, long = whisper(**LANGUAGES), torch.randn(1, 8, 100)
    options: dict[str, Any] = {"max_new_tokens": 4, "language": "en", "return_timestamps": True}
    for kind in ("decoder", "cross"):
        with pytest.raises(ac.AttentionError, match="begins several texts: one for each window of a long sound"):
            ac.capture(model.generate, long, attention_mask=torch.ones(1, 100), **options, reading=ac.Reading(kind=kind))
        falling: dict[str, Any] = {"temperature": (0.0, 1.0), "logprob_threshold": 10.0}
        with pytest.raises(ac.AttentionError, match=r"(?s)each temperature that it falls back to.*with one temperature"):
            ac.capture(model.generate, SOUND, **options, **falling, reading=ac.Reading(kind=kind))
    with pytest.raises(ac.AttentionError, match="computed attention several times in this generation, for other inputs"):
        ac.capture(model.generate, long, attention_mask=torch.ones(1, 100), **options, reading=ac.Reading(kind="encoder"))


def test_tokens_that_a_generation_of_ones_own_takes_back_or_changes() -> None:
    def takes_back(model: Any, input_ids: Any, **_: Any) -> Any:
        cache = transformers.DynamicCache(config=model.config)
        model(input_ids, past_key_values=cache)
        cache.crop(-2)
        model(input_ids[:, -2:], past_key_values=cache)
        return input_ids

    def changes(model: Any, input_ids: Any, **_: Any) -> Any:
        model(input_ids)
        return torch.cat([input_ids, input_ids[:, :1]], 1).flip(0)

    model, given = causal("llama")
    with pytest.raises(ac.AttentionError, match=r"2 of the tokens that the decoder read were taken back"):
        ac.capture(model.generate, **given, custom_generate=takes_back)
    with pytest.raises(ac.AttentionError, match="is not the text that generate returned"):
        ac.capture(model.generate, **given, custom_generate=changes)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_tokens_that_were_read_before() -> None:
    model, given = causal("llama")
    cache = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(given["input_ids"][:, :3], past_key_values=cache)
    with pytest.raises(ac.AttentionError, match="the cache holds 3 tokens that were read before"):
        ac.capture(model.generate, **given, max_new_tokens=2, past_key_values=cache)


def test_embeddings_of_the_prompt() -> None:
    model, given = causal("llama")
    embedded = model.get_input_embeddings()(given["input_ids"]).detach()
    expected = ac.capture(model.generate, **given, max_new_tokens=4, do_sample=False)
    for more in ({}, given):
        store = ac.capture(model.generate, **more, inputs_embeds=embedded, max_new_tokens=4, do_sample=False)
        assert torch.allclose(store.maps(), expected.maps(), atol=1e-5)


def test_padding_that_generate_finds_and_ends_that_it_is_given() -> None:
    model, given = causal("llama")
    ids = given["input_ids"]
    ids[1, :3] = 0
    options: dict[str, Any] = {"input_ids": ids, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(ac.capture(model.generate, **options).tokens.mask[:, :8], ids != 0)
    ends = int(model.generate(**options)[0, 9])
    text = model.generate(**options, eos_token_id=ends)
    tokens = ac.capture(model.generate, **options, eos_token_id=ends).tokens
    assert torch.equal(tokens.mask[:, 8:], text[:, 8:-1] != 0)


@pytest.mark.parametrize("cache", ["default", "static"])
def test_a_decoder_prompt_that_is_padded(cache: str) -> None:
    model = bart()
    ids, mask = torch.randint(3, 60, (2, 3)), torch.tensor([[1, 1, 1], [0, 1, 1]])
    options: dict[str, Any] = {
        "input_ids": torch.randint(3, 60, (2, 7)),
        "decoder_input_ids": ids,
        "decoder_attention_mask": mask,
    }
    store = ac.capture(model.generate, **options, **CACHES[cache], max_new_tokens=3, reading=ac.Reading(kind="decoder"))
    assert (~store.tokens.mask).sum().item() == 1


def test_strings_that_end_a_text_need_the_tokenizer_that_labels_it() -> None:
    model, given = causal("llama")
    tokenizer = bytes_tokenizer()
    options: dict[str, Any] = {"input_ids": given["input_ids"][:1], "max_new_tokens": 8, "do_sample": False}
    ends = tokenizer.decode(model.generate(**options)[0, 10:12])
    text = model.generate(**options, stop_strings=[ends], tokenizer=tokenizer)
    assert text.shape[1] < 16
    stops: list[dict[str, Any]] = [
        {"stop_strings": [ends]},
        {"generation_config": transformers.GenerationConfig(stop_strings=[ends], max_new_tokens=8, pad_token_id=0)},
    ]
    reading = ac.Reading(tokenizer=tokenizer)
    for labelled in ({"tokenizer": tokenizer}, {"reading": reading}, {"tokenizer": tokenizer, "reading": reading}):
        for stop in stops:
            tokens = ac.capture(model.generate, **{**options, **stop, **labelled}).tokens
            assert tokens.labels == [tokenizer.convert_ids_to_tokens(text[0, :-1].tolist())]


def test_an_encoder_that_does_not_run() -> None:
    model = whisper()
    with torch.no_grad():
        encoded = model.get_encoder()(SOUND)
    with pytest.raises(ac.AttentionError, match=r"(?s)the encoder does not run.*Pass input_features=…"):
        ac.capture(model.generate, encoder_outputs=encoded, max_new_tokens=2, reading=ac.Reading(kind="encoder"))


def test_images_in_a_prompt() -> None:
    model: Any = build(replace(MEMBERS["llava"], model="LlavaForConditionalGeneration"))
    given: dict[str, Any] = inputs(MEMBERS["llava"], model) | {"suppress_tokens": [model.config.image_token_id]}
    for tower, tokens in (("text", 25), ("vision", 17)):
        store = ac.capture(
            model.generate, **given, max_new_tokens=3, do_sample=False, eos_token_id=None, reading=ac.Reading(tower=tower)
        )
        assert (len(store.tokens), store.tokens.roles.eq(ac.Role.PATCH).sum(1).tolist()) == (tokens, [16, 16])


def test_token_healing_needs_the_tokenizer_that_labels_the_text() -> None:
    model, given = causal("llama")
    tokenizer = bytes_tokenizer()
    tokenizer.pad_token = tokenizer.bos_token = tokenizer.convert_ids_to_tokens(0)
    options: dict[str, Any] = {"input_ids": given["input_ids"][:1], "max_new_tokens": 3, "do_sample": False}
    options |= {"token_healing": True, "tokenizer": tokenizer, "pad_token_id": 0}
    text = model.generate(**options)
    store = ac.capture(model.generate, **options, keep="maps")
    assert torch.allclose(store.maps(), ac.capture(model, text[:, :-1], keep="maps").maps(), atol=1e-5)


@pytest.mark.parametrize("prompt", ["a text", [[3, 4]], transformers.BatchEncoding({"input_ids": torch.ones(1, 2).long()})])
def test_a_prompt_that_is_no_tensor(prompt: Any) -> None:
    model, _ = causal("llama")
    with pytest.raises(ac.AttentionError, match=r"(?s)takes token numbers as an integer tensor.*\*\*tokenizer\(text"):
        ac.capture(model.generate, prompt, max_new_tokens=2)
