"""The tokens of a model: decoders, images in text, frames of sound, and texts that are too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import attnchain_interp as ac

from ..transformers_zoo import MEMBERS, build
from .test_adapter import member


def test_a_decoder_that_makes_its_own_tokens() -> None:
    model, given = member("bart")
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    mask[1, 9:] = 0
    tokens = ac.capture(model, ids, mask, reading=ac.Reading(kind="decoder")).tokens
    assert tokens.mask.all(), "the mask is the encoder's"
    assert torch.equal(ac.capture(model, ids, mask, reading=ac.Reading(kind="encoder")).tokens.mask, mask.bool())
    labelled = build(replace(MEMBERS["bart"], model="BartForConditionalGeneration"))
    assert len(ac.capture(labelled, ids, labels=ids[:, :7].contiguous(), reading=ac.Reading(kind="decoder")).tokens) == 7


def test_image_tokens_of_a_language_model_are_patches() -> None:
    model, given = member("llava")
    store = ac.capture(model, **given, reading=ac.Reading(tower="text"))
    assert store.tokens.roles[0].tolist() == [ac.Role.TEXT, *[ac.Role.PATCH] * 16, *[ac.Role.TEXT] * 6]


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


def test_a_prompt_longer_than_the_position_table() -> None:
    model, _ = member("gpt2")
    with pytest.raises(ac.AttentionError, match=r"the input has 65 tokens but GPT2Model has positions for 64 \(wpe\)"):
        ac.capture(model, torch.ones(1, 65, dtype=torch.long))
    model, _ = member("roberta")  # two of its places are for padding
    ac.capture(model, torch.full((1, 63), 5))
    with pytest.raises(ac.AttentionError, match="has 64 tokens but RobertaModel has positions for 63"):
        ac.capture(model, torch.full((1, 64), 5))
