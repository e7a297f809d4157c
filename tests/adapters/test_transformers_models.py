"""Which sequence of a transformers model is meant, what its tokens are, generated text, and models that are not as usual."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import accelerate
import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac

from .transformers_zoo import MEMBERS, build, inputs


def member(name: str) -> tuple[Any, dict[str, Any]]:
    model = build(MEMBERS[name])
    return model, inputs(MEMBERS[name], model)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[CLS]", "[SEP]", "a", "walk", "moves", "on"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", padding_side="left"
    )


def test_several_sequences_are_told_apart() -> None:
    model, given = member("bart")
    with pytest.raises(
        ac.AttentionError, match='(?s)several sequences.*Reading.…. with kind="encoder"; kind="decoder"; kind="cross"'
    ):
        ac.capture(model, **given)
    encoder, decoder, cross = (
        ac.capture(model, **given, reading=ac.Reading(kind=kind)) for kind in ("encoder", "decoder", "cross")
    )
    assert [len(store.tokens) for store in (encoder, decoder, cross)] == [12, 9, 12]
    assert cross.queries is not None
    assert torch.equal(cross.queries.roles, decoder.tokens.roles)
    assert cross.metadata["kind"] == "cross"
    assert all("encoder_attn" in name for name in cross.names)
    # a decoder's token looks at the encoder, and the walk goes on there
    start = cross.maps()[:, -1].mean(1)[:, -1]
    assert ac.bounce(encoder.chain(), start, 2).shape == (2, 12)
    with pytest.raises(ac.AttentionError, match="(?s)kind='both' is unknown.*'encoder', 'decoder'"):
        ac.capture(model, **given, reading=ac.Reading(kind="both"))
    with pytest.raises(ac.AttentionError, match=r'(?s)no attention of kind=.pool.*Choose one of kind="encoder"'):
        ac.capture(model, **given, reading=ac.Reading(kind="pool"))
    with pytest.raises(ac.AttentionError, match="(?s)is not a chain.*Keep maps or factors"):
        ac.capture(model, **given, reading=ac.Reading(kind="cross"), keep=[ac.ColumnSums()])


def test_a_decoder_that_makes_its_own_tokens() -> None:
    model, given = member("bart")
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    mask[1, 9:] = 0
    tokens = ac.capture(model, ids, mask, reading=ac.Reading(kind="decoder")).tokens
    assert tokens.mask.all(), "the mask is the encoder's"
    assert torch.equal(ac.capture(model, ids, mask, reading=ac.Reading(kind="encoder")).tokens.mask, mask.bool())
    labelled = build(replace(MEMBERS["bart"], model="BartForConditionalGeneration"))
    assert len(ac.capture(labelled, ids, labels=ids[:, :7].contiguous(), reading=ac.Reading(kind="decoder")).tokens) == 7


def test_cross_attention_as_factors_and_as_a_file(tmp_path: Any) -> None:
    model, given = member("bart")
    maps, factors = (ac.capture(model, **given, reading=ac.Reading(kind="cross"), keep=keep) for keep in ("maps", "factors"))
    assert torch.allclose(maps.maps(), factors.maps(), atol=1e-6)
    factors.write(tmp_path / "cross.safetensors")
    read = ac.AttentionStore.read(tmp_path / "cross.safetensors")
    assert read.queries is not None
    assert maps.queries is not None
    assert torch.equal(read.queries.roles, maps.queries.roles)
    assert torch.allclose(read.maps(), maps.maps(), atol=1e-6)


def test_towers_are_told_apart() -> None:
    model, given = member("clip")
    text, vision = (ac.capture(model, **given, reading=ac.Reading(tower=tower)) for tower in ("text", "vision"))
    assert (text.tokens.grid, vision.tokens.grid) == (None, (4, 4))
    assert all(name.startswith("vision_model.") for name in vision.names)
    alone = ac.capture(model.vision_model, given["pixel_values"])
    assert torch.equal(alone.maps(), vision.maps())
    with pytest.raises(ac.AttentionError, match=r"(?s)no attention of tower='audio'.*Choose one of tower=\"text\""):
        ac.capture(model, **given, reading=ac.Reading(tower="audio"))


def test_image_tokens_of_a_language_model_are_patches() -> None:
    model, given = member("llava")
    store = ac.capture(model, **given, reading=ac.Reading(tower="text"))
    assert store.tokens.roles[0].tolist() == [ac.Role.TEXT, *[ac.Role.PATCH] * 16, *[ac.Role.TEXT] * 6]


def test_layers_are_known_by_name_where_some_have_no_attention() -> None:
    model, given = member("qwen3_next")
    assert ac.capture(model, **given).names == ["layers.1.self_attn", "layers.2.self_attn"]
    model, given = member("albert")
    names = ac.capture(model, **given).names
    assert [name[-3:] for name in names] == ["[0]", "[1]", "[0]", "[1]"]
    assert torch.equal(ac.capture(model, **given, layers=names[1]).maps(), ac.capture(model, **given, layers=1).maps())


def test_a_sink_leaves_rows_below_one() -> None:
    model, given = member("gpt_oss")
    store = ac.capture(model, **given)
    assert store[0].below_one
    sums = store.maps().sum(-1)
    assert float(sums.min()) < 0.5
    assert float(sums.max()) < 1 + 1e-5
    assert not ac.TokenRank(causal="absorb").score(store)[:, 0].any()
    found = ac.capture(model, **given, keep=[ac.StationaryVectors()])["stationary"]
    assert torch.allclose(found[:, 1], ac.stationary(store.chain(1, "each"), 0.99), atol=1e-5)


def test_a_tokenizer_gives_labels_and_special_tokens(tokenizer: Any) -> None:
    model, _ = member("bert")
    given = tokenizer(["a walk moves on", "a walk"], return_tensors="pt", padding=True)
    given.pop("token_type_ids", None)
    tokens = ac.capture(model, **given, reading=ac.Reading(tokenizer=tokenizer)).tokens
    assert tokens.labels is not None
    assert tokens.labels[0] == ["[CLS]", "a", "walk", "moves", "on", "[SEP]"]
    assert tokens.labels[1][:2] == ["[PAD]", "[PAD]"]
    text, special, pad, first = ac.Role.TEXT, ac.Role.SPECIAL, ac.Role.PAD, ac.Role.CLASS
    assert tokens.roles.tolist() == [[first, text, text, text, text, special], [pad, pad, first, text, text, special]]
    without = ac.capture(model, **given).tokens
    assert without.labels is None
    assert torch.equal(without.roles == pad, tokens.roles == pad)


def test_embeddings_in_place_of_numbers(tokenizer: Any) -> None:
    model, given = member("gpt2")
    embedded = model.wte(given["input_ids"]).detach()
    store = ac.capture(model, inputs_embeds=embedded)
    assert ac.capture(model, inputs_embeds=embedded, reading=ac.Reading(tokenizer=tokenizer)).tokens.labels is None
    assert torch.allclose(store.maps(), ac.capture(model, **given).maps(), atol=1e-6)


def test_frames_of_sound_and_their_padding() -> None:
    model, given = member("wav2vec2")
    mask = torch.ones(2, 4000, dtype=torch.long)
    mask[1, 2500:] = 0
    store = ac.capture(model, **given, attention_mask=mask)
    codes = store.tokens.roles
    assert set(codes[0].tolist()) == {int(ac.Role.FRAME)}
    assert codes[1].tolist() == [ac.Role.FRAME] * 7 + [ac.Role.PAD] * 5
    assert not store.maps()[1, :, :, :7, 7:].any()


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


def test_a_prompt_longer_than_the_position_table() -> None:
    model, _ = member("gpt2")
    with pytest.raises(ac.AttentionError, match=r"the input has 65 tokens but GPT2Model has positions for 64 \(wpe\)"):
        ac.capture(model, torch.ones(1, 65, dtype=torch.long))
    model, _ = member("roberta")  # two of its places are for padding
    ac.capture(model, torch.full((1, 63), 5))
    with pytest.raises(ac.AttentionError, match="has 64 tokens but RobertaModel has positions for 63"):
        ac.capture(model, torch.full((1, 64), 5))


def test_a_model_without_weights() -> None:
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig()).eval()
    with pytest.raises(ac.AttentionError, match="the model is on the meta device .* have no weights"):
        ac.capture(model, torch.ones(1, 5, dtype=torch.long))


@pytest.mark.parametrize("implementation", ["flex_attention"])
def test_implementations_that_hide_their_weights(implementation: str) -> None:
    model, given = member("llama")
    model.config._attn_implementation = implementation
    with pytest.raises(ac.AttentionError, match=f"'{implementation}', which shows none. Load the model with"):
        ac.capture(model, **given)


def test_a_compiled_model_is_unwrapped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    model, given = member("bert")
    expected = ac.capture(model, **given)
    with caplog.at_level(logging.WARNING, "attnchain_interp"):
        store = ac.capture(torch.compile(model), **given)
    assert "BertModel is compiled; the attention is that of the uncompiled model" in caplog.text
    assert store.names == expected.names
    assert torch.equal(store.maps(), expected.maps())
    model.encoder.layer[0].compile()
    with pytest.raises(ac.AttentionError, match=r"encoder\.layer\.0 is compiled in place"):
        ac.capture(model, **given)


def test_offloaded_weights() -> None:
    model, given = member("llama")
    expected = ac.capture(model, **given).maps()
    accelerate.cpu_offload(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.allclose(ac.capture(model, **given).maps(), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_weights() -> None:
    model, given = member("bert")
    exact = ac.capture(model, **given).maps()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    store = ac.capture(quantised, **given)
    assert 0 < float((store.maps() - exact).abs().max()) < 0.2
    with torch.no_grad():
        quantised.set_attn_implementation("eager")
        own = quantised(**given, output_attentions=True).attentions
    assert torch.allclose(store.maps(), torch.stack(own, 1), atol=1e-5)


def test_padding_on_either_side_of_an_encoder() -> None:
    model, given = member("bert")
    for side in ("left", "right"):
        mask = torch.ones_like(given["input_ids"])
        mask[1, slice(0, 3) if side == "left" else slice(9, 12)] = 0
        store = ac.capture(model, given["input_ids"], mask)
        assert torch.equal(store.tokens.mask, mask.bool())
        assert not store.maps()[1, ..., ~mask[1].bool()].any()
        alone = store.maps()[1:, :, :, mask[1].bool()][..., mask[1].bool()]
        expected = ac.TokenRank().score(ac.AttentionStore.from_maps(list(alone.transpose(0, 1))))
        assert torch.allclose(ac.TokenRank().score(store)[1:, mask[1].bool()], expected, atol=1e-5)


def test_attention_of_one_token() -> None:
    model, _ = member("gpt2")
    scores: Tensor = ac.TokenRank(model).attribute(torch.tensor([[7]]))
    assert scores.tolist() == [[1]]
