"""open_clip: image and text towers of its own, of timm, and CoCa's captioner."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac

from .contract import TEXT, asked, captured, fused, image, part, refused

package: Any = pytest.importorskip("open_clip", reason="open_clip is not installed")

NAME = "open_clip"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(1, 60, (2, 10), generator=torch.Generator().manual_seed(0))
VISION: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
WRITING: dict[str, Any] = {"context_length": 10, "vocab_size": 60, "width": 32, "heads": 2, "layers": 2}


def similarity(output: Any) -> torch.Tensor:
    return (output[0] * output[1]).sum(-1)


def test_both_towers_of_a_clip() -> None:
    torch.manual_seed(0)
    clip = package.CLIP(32, VISION, WRITING).eval()
    towers = 'tower="visual.transformer.resblocks" or tower="transformer.resblocks"'
    refused(NAME, f"(?s)17 tokens.*10 tokens, causal.*{towers}", clip, IMAGES, WORDS)
    refused(
        NAME, r"(?s)10 tokens .*Write reading=.*text\(\)\)\.$", clip, IMAGES, WORDS, reading=ac.Reading(tower="transformer")
    )
    refused(NAME, r"(?s)17 tokens .*grid=\(4, 4\), class_token=True", clip, IMAGES, WORDS, reading=ac.Reading(tower="visual"))
    seen = ac.capture(clip, IMAGES, WORDS, reading=image(4, 4, tower="visual"))
    read = ac.capture(clip, IMAGES, WORDS, reading=ac.Reading(tower="transformer", tokens=TEXT.tokens))
    assert seen.unread == tuple(read.names)
    assert read.unread == tuple(seen.names)
    for store, method, given in ((seen, clip.encode_image, IMAGES), (read, clip.encode_text, WORDS)):
        reading = image(4, 4) if given is IMAGES else None
        assert torch.equal(ac.capture(method, given, reading=reading).maps(), store.maps())
    captured(NAME, clip.visual, IMAGES, spy=asked, reading=image(4, 4), attribute=False)
    reading = image(4, 4, tower="visual")
    captured(NAME, clip, IMAGES, WORDS, spy=part(asked, "visual"), reading=reading, attribute=False)
    reading = ac.Reading(tower="transformer", tokens=TEXT.tokens)
    captured(NAME, clip, IMAGES, WORDS, spy=part(asked, "transformer"), reading=reading, attribute=False)
    reading = image(4, 4, tower="visual")
    scores = ac.GradientAttention(clip).attribute(IMAGES, similarity, (WORDS,), reading=reading)
    assert scores.shape == IMAGES.shape
    assert scores.any()


def test_a_tower_of_timm_beside_one_of_its_own() -> None:
    torch.manual_seed(0)
    vision = {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False}
    writing = {"context_length": 10, "vocab_size": 60, "width": 48, "heads": 4, "layers": 2}
    model = package.CustomTextCLIP(32, {**vision, "timm_pool": "", "timm_proj": "linear"}, writing).eval()
    images = torch.rand(1, 3, 224, 224)
    outside = r"outside of the known model visual.trunk \(VisionTransformer\), in text.transformer.resblocks.0.attn "
    refused(NAME, rf'(?s){outside}.*reading=ac.Reading\(tower="visual.trunk"\)', model, images, WORDS[:1])
    with pytest.raises(ac.AttentionError, match=f"(?s){outside}"):
        ac.TokenRank(model).attribute(images, additional_forward_args=(WORDS[:1],))
    store = ac.capture(model, images, WORDS[:1], reading=ac.Reading(tower="visual.trunk"))
    assert (store.tokens.grid, len(store)) == ((14, 14), 12)
    assert store.unread == ("text.transformer.resblocks.0.attn", "text.transformer.resblocks.1.attn")
    with fused(model) as seen:
        model.encode_image(images)
    assert torch.allclose(store.maps(), torch.stack(seen, 1).detach(), atol=1e-5)
    read = ac.capture(model, images, WORDS[:1], reading=ac.Reading(tower="text", tokens=TEXT.tokens))
    assert read.names == list(store.unread)
    assert torch.equal(read.maps(), ac.capture(model.text, WORDS[:1]).maps())


def test_a_captioner_names_its_towers() -> None:
    torch.manual_seed(0)
    pooled: dict[str, Any] = {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    coca = package.CoCa(32, WRITING, {**WRITING, "embed_cls": True, "output_tokens": True}, pooled).eval()
    towers = ["visual.transformer.resblocks", "visual.attn_pool.attn", "text.transformer.resblocks", "text_decoder.cross_attn"]
    refused(NAME, "(?s)" + ".*".join(f"{name}, " for name in towers), coca, IMAGES, WORDS)
    with asked(coca) as seen:
        coca(IMAGES, WORDS)
    by_tower: dict[str, list[Any]] = {"visual.transformer": seen[:2], "visual.attn_pool": seen[2:3], "text": seen[3:5]}
    for name, expected in by_tower.items():
        reading = image(4, 4, tower=name) if name.startswith("visual") else ac.Reading(tower=name, tokens=TEXT.tokens)
        store = ac.capture(coca, IMAGES, WORDS, reading=reading)
        assert torch.allclose(store.maps(), torch.stack(expected, 1).detach(), atol=1e-5), name
