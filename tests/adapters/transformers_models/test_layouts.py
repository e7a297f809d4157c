"""The tokens of a model: decoders, images in text, frames of sound, and texts that are too long."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac

from ..transformers_zoo import MEMBERS, build
from .test_adapter import member


def test_a_decoder_that_makes_its_own_tokens() -> None:
    model, given = member("bart")
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    mask[1, 9:] = 0
    for kind in ("encoder", "decoder"):  # padding of the encoder makes padding of the decoder
        assert torch.equal(ac.capture(model, ids, mask, reading=ac.Reading(kind=kind)).tokens.mask, mask.bool())
    own = ac.capture(model, ids, mask, reading=ac.Reading(kind="decoder"), decoder_input_ids=ids)
    assert own.tokens.mask.all(), "the mask is that of the encoder's tokens"
    labelled = build(replace(MEMBERS["bart"], model="BartForConditionalGeneration"))
    assert len(ac.capture(labelled, ids, labels=ids[:, :7].contiguous(), reading=ac.Reading(kind="decoder")).tokens) == 7


def test_image_tokens_of_a_language_model_are_patches() -> None:
    model, given = member("llava")
    store = ac.capture(model, **given, reading=ac.Reading(tower="text"))
    assert store.tokens.roles[0].tolist() == [ac.Role.TEXT, *[ac.Role.PATCH] * 16, *[ac.Role.TEXT] * 6]


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_several_images_of_a_text_and_their_padding(name: str) -> None:
    """An image of zeros is none. Patches without a pixel of their image are padding, to which none attends."""
    model, ids = build(MEMBERS[name]), torch.tensor([[5, *[50] * 8, 7], [5, *[50] * 4, *[7] * 5]])
    images, pixels = torch.randn(2, 2, 3, 64, 64), torch.ones(2, 2, 64, 64, dtype=torch.bool)
    images[1, 1], pixels[0, 1, 30:] = 0, False
    given: dict[str, Any] = {"input_ids": ids, "pixel_values": images}
    tokens = ac.capture(model, **given, reading=ac.Reading(tower="vision")).tokens
    assert (tokens.batch, tokens.grid) == (3, (4, 4))
    padded = ac.capture(model, **given, pixel_attention_mask=pixels, reading=ac.Reading(tower="vision"))
    assert padded.tokens.grid is None
    assert padded.tokens.mask.tolist() == [[True] * 16, [True] * 8 + [False] * 8, [True] * 16]
    assert not padded.maps()[1, ..., 8:].any()
    patches = padded.tokens.mask.unflatten(1, (4, 4))
    alone = ac.capture(model.vision_model, images.flatten(0, 1)[:3], patch_attention_mask=patches)
    assert torch.equal(alone.tokens.roles, padded.tokens.roles)
    assert torch.allclose(alone.maps(), padded.maps(), atol=1e-6)


@pytest.mark.parametrize("name", ["idefics3", "smolvlm", "blip-2"])
def test_images_of_a_tower_are_scored_as_within_its_model(name: str) -> None:
    model, given = member(name)
    images = given.pop("pixel_values")
    grid = ac.MultiBounce(model.vision_model).attribute(images.flatten(0, -4), output="grid")
    assert grid.shape == (2, 4, 4)
    first, beside = (images, given) if name == "blip-2" else (given["input_ids"], {"pixel_values": images})
    reading = ac.Reading(tower="vision")
    whole = ac.MultiBounce(model).attribute(first, model_kwargs=beside, reading=reading, output="grid")
    assert torch.allclose(whole, grid, atol=1e-6)


def test_a_decoder_beside_a_cross_attention_that_is_not_its_own() -> None:
    """BLIP-2 takes decoder_input_ids for T5; OPT writes the text of input_ids."""
    model, given = member("blip-2")
    roles = ac.capture(model, **given, reading=ac.Reading(tower="text")).tokens.roles
    assert roles[0].tolist() == [ac.Role.TEXT, *[ac.Role.PATCH] * 4, *[ac.Role.TEXT] * 6]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_video_tokens_of_a_language_model_are_patches(name: str) -> None:
    grid, pixels = torch.tensor([[1, 4, 6]]), torch.randn(24, 96)
    roles = []
    for token, kind in ((50, "image"), (52, "video")):
        model = build(replace(MEMBERS[name], config=MEMBERS[name].config | {"video_token_id": 52}))
        ids = torch.tensor([[5, 51, *[token] * 6, 7, 8, 9]])
        values, size = ("pixel_values", "image_grid_thw") if kind == "image" else ("pixel_values_videos", "video_grid_thw")
        kinds = (ids == token).long() * (1 if kind == "image" else 2)
        given: dict[str, Any] = {"input_ids": ids, "mm_token_type_ids": kinds, values: pixels, size: grid}
        store = ac.capture(model, **given, reading=ac.Reading(tower="text"))
        roles.append(store.tokens.roles[0].tolist())
    assert roles[0] == roles[1]
    assert roles[0][1:9] == [ac.Role.TEXT, *[ac.Role.PATCH] * 6, ac.Role.TEXT]


def test_frames_of_sound_and_their_padding() -> None:
    model, given = member("wav2vec2")
    mask = torch.ones(2, 4000, dtype=torch.long)
    mask[1, 2500:] = 0
    store = ac.capture(model, **given, attention_mask=mask)
    codes = store.tokens.roles
    assert set(codes[0].tolist()) == {int(ac.Role.FRAME)}
    assert codes[1].tolist() == [ac.Role.FRAME] * 7 + [ac.Role.PAD] * 5
    assert not store.maps()[1, :, :, :7, 7:].any()


def test_an_image_smaller_than_a_patch() -> None:
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, patch_size=14, **sizes)).eval()
    with pytest.raises(
        ac.AttentionError, match="(?s)images of 20 × 7 pixels are smaller than a patch of 14 × 14.*Resize them"
    ):
        ac.capture(model, torch.rand(1, 3, 20, 7))


def test_a_prompt_longer_than_the_position_table() -> None:
    model, _ = member("gpt2")
    with pytest.raises(ac.AttentionError, match=r"the input has 65 tokens but GPT2Model has positions for 64 \(wpe\)"):
        ac.capture(model, torch.ones(1, 65, dtype=torch.long))
    model, _ = member("roberta")  # two of its places are for padding
    ac.capture(model, torch.full((1, 63), 5))
    with pytest.raises(ac.AttentionError, match="has 64 tokens but RobertaModel has positions for 63"):
        ac.capture(model, torch.full((1, 64), 5))


@pytest.mark.parametrize("name", ["bert", "llama", "gemma3n_text"])
@pytest.mark.parametrize("number", [60, -100])
def test_token_numbers_that_the_model_does_not_have(name: str, number: int) -> None:
    model, _ = member(name)
    ids = torch.tensor([[3, 4, number, 5]])
    found = r"(?s)input_ids holds token numbers from -?\d+ to \d+, but \w+ has tokens 0 to 59\..*own tokenizer"
    for ask in (lambda: ac.capture(model, ids), lambda: ac.TokenRank(model).attribute(ids)):
        with pytest.raises(ac.AttentionError, match=found):
            ask()
    bart, given = member("bart")
    with pytest.raises(ac.AttentionError, match="decoder_input_ids holds token numbers"):
        ac.capture(bart, given["input_ids"], decoder_input_ids=ids, reading=ac.Reading(kind="decoder"))


def test_each_end_of_a_list_of_ends_is_special() -> None:
    ids = torch.tensor([[1, 5, 4, 6, 2]])
    for ends, special in ((2, [0, 4]), ([2, 4], [0, 2, 4]), ([], [0])):
        model = build(replace(MEMBERS["llama"], config=MEMBERS["llama"].config | {"eos_token_id": ends}))
        roles = ac.capture(model, ids).tokens.roles[0]
        assert (roles == ac.Role.SPECIAL).nonzero().flatten().tolist() == special
        assert ac.TokenRank(model).attribute(ids).shape == ids.shape


SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CHOICES = torch.randint(3, 60, (2, 3, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra"])
def test_several_texts_of_an_example_are_read_as_the_model_folds_them(name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES, initializer_range=0.3)
    model: Any = getattr(transformers, f"{name}ForMultipleChoice")(config).eval()
    mask = torch.ones_like(CHOICES)
    mask[0, 1, 6:] = 0
    store = ac.capture(model, CHOICES, attention_mask=mask)
    whole = ac.capture(model.base_model, CHOICES.flatten(0, 1), attention_mask=mask.flatten(0, 1))
    assert torch.equal(store.tokens.roles, whole.tokens.roles)
    assert torch.equal(store.maps(), whole.maps())
    named = {"attention_mask": mask}
    ranks = ac.TokenRank(model, maps="attention").attribute(CHOICES, model_kwargs=named)
    assert torch.allclose(ranks.flatten(0, 1), ac.TokenRank().score(whole))
    ranks = ac.TokenRank(model).attribute(CHOICES, model_kwargs=named)
    alone = ac.TokenRank(model).attribute(CHOICES, model_kwargs=named, internal_batch_size=1)
    assert torch.allclose(alone, ranks, atol=1e-6)
    assert torch.equal(ac.TokenRank(model).attribute(CHOICES, model_kwargs=named, output="tokens"), ranks.flatten(0, 1))
    classes = ac.GradientAttention(model).attribute(CHOICES, 1, model_kwargs=named)
    assert bool((classes[:, 1, 1:].sum(-1) > 0).all())
    assert torch.equal(classes[:, [0, 2]], torch.eye(9)[0].expand(2, 2, 9)), "a choice has no gradient of another's score"
    alone = ac.GradientAttention(model).attribute(CHOICES[1:], 1, model_kwargs={"attention_mask": mask[1:]})
    assert torch.allclose(classes[1:], alone, atol=1e-6)


def test_several_texts_of_an_example_in_a_decoder() -> None:
    model = transformers.GPT2DoubleHeadsModel(transformers.GPT2Config(vocab_size=60, n_embd=48, n_layer=2, n_head=4)).eval()
    ranks = ac.TokenRank(model).attribute(CHOICES)
    assert torch.allclose(ranks[:, 1], ac.TokenRank(model.transformer).attribute(CHOICES[:, 1]), atol=1e-6)
    by_choice = ac.GradientTokenRank(model).attribute(CHOICES, lambda output: output.mc_logits[:, 1])
    assert by_choice.shape == CHOICES.shape


@pytest.mark.parametrize(
    "method", [ac.TokenRank, ac.Rollout, ac.MultiBounce, ac.RawAttention, partial(ac.Rollout, maps="alti")]
)
def test_an_encoder_padded_on_the_left_scores_as_without_padding(method: Any) -> None:
    torch.manual_seed(0)
    config = transformers.RobertaConfig(**SIZES, pad_token_id=1, initializer_range=0.3)  # positions begin after the padding
    model = transformers.RobertaModel(config, add_pooling_layer=False).eval()
    ids, mask = CHOICES[:, 0].clone(), torch.ones(2, 9, dtype=torch.long)
    ids[0, :4], mask[0, :4] = 1, 0
    assert ac.capture(model, ids, mask).tokens.class_tokens.tolist() == [4, 0]
    both = method(model).attribute(ids, additional_forward_args=(mask,))
    for example, start in enumerate([4, 0]):
        alone = method(model).attribute(ids[example : example + 1, start:])
        assert torch.allclose(both[example, start:], alone[0], atol=1e-5)
        assert not both[example, :start].any()
