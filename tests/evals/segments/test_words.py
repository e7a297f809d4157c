"""From a word to a segment: by a pipeline, and by two towers; each beside the same done by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals import segment
from attnchain_evals.segments.words import similarities, word_scores
from attnchain_interp import AttentionError, capture, diffusion

from ...tiny_pipelines import LENGTH, WORDS, flux, stable_diffusion, tokenizer
from .scenes import Colours, clip, picture, preprocess, siglip


def alone(model: Any, pixels: Tensor) -> Tensor:
    """The embedding of every token: the model's own pooling, where each token attends to itself alone in the last layer."""
    tower = model.vision_model
    kept: list[Tensor] = []
    with tower.encoder.layers[-1].self_attn.register_forward_hook(
        lambda module, args, kwargs, out: kept.append(kwargs["hidden_states"] if kwargs else args[0]), with_kwargs=True
    ):
        tower(pixels)
    values = torch.stack(
        [_self_attention(tower.encoder.layers[-1].self_attn, token[None, None])[0, 0] for token in kept[0][0]]
    )
    return model.visual_projection(tower.post_layernorm(values))


def _self_attention(module: Any, token: Tensor) -> Tensor:
    """The attention module on a sequence of one token, whose softmax is 1."""
    return module(hidden_states=token, attention_mask=None)[0]


@torch.no_grad()
def test_a_patch_of_clip_is_read_as_if_it_were_alone() -> None:
    model, pixels, text = clip(), preprocess(picture()), torch.randn(12)
    expected = torch.cosine_similarity(alone(model, pixels), text, dim=-1)
    found = similarities(model, pixels, text)
    torch.testing.assert_close(found, expected)
    assert found.shape == (65,)
    assert found.std() > 0.05


@torch.no_grad()
def test_a_patch_of_siglip_is_pooled_alone() -> None:
    model, pixels, text = siglip(), preprocess(picture()), torch.randn(16)
    hidden = model.vision_model(pixels).last_hidden_state[0]
    expected = [torch.cosine_similarity(model.vision_model.head(token[None, None])[0], text, dim=-1) for token in hidden]
    torch.testing.assert_close(similarities(model, pixels, text), torch.stack(expected))


@pytest.mark.parametrize("build", [clip, siglip])
@torch.no_grad()
def test_one_balanced_step_from_the_similar_patches(build: Any) -> None:
    model = build()
    ids = torch.tensor([[1, *(WORDS.index(word) for word in ("a", "photo", "of", "a", "dog")), 2]])
    padded = torch.cat([ids, torch.zeros(1, LENGTH - ids.shape[1], dtype=torch.long)], 1)
    attended = {"attention_mask": (padded > 0).long()}
    text = model.get_text_features(padded, **attended).pooler_output[0]
    pixels = preprocess(picture(64))
    similar = similarities(model, pixels, text)[-64:]
    start = (similar - similar.mean()).clamp_min(0)
    P = capture(model.vision_model, pixels, layers=-1).chain(balanced=True).matrix[0]
    start = torch.cat([torch.zeros(len(P) - 64), start / start.sum()]).to(P.dtype)
    expected = (start @ P)[-64:].view(8, 8)
    found, covered = word_scores(model, picture(64), "dog", preprocess, tokenizer(), None)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-6)
    assert covered == (1, 1)
    segments = segment(model, picture(64), preprocess, word="dog", tokenizer=tokenizer(), refine=False)
    assert segments.facts == {"segment": "dog"}
    assert 0 < segments.areas[1] < 1
    other, _ = word_scores(model, picture(64), "hat", preprocess, tokenizer(), None)
    assert not torch.allclose(found, other)


def test_where_all_patches_are_alike_the_walk_starts_everywhere() -> None:
    """A picture of one colour in a tower without positions: the walk starts everywhere."""
    model = clip()
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight.zero_()
    found, _ = word_scores(model, Image.new("RGB", (64, 64), "grey"), "dog", preprocess, tokenizer(), None)
    torch.testing.assert_close(found, found.mean().expand(8, 8))


@pytest.mark.parametrize(("build", "grid"), [(stable_diffusion, (8, 8)), (flux, None)])
def test_a_pipeline_walks_from_the_word(build: Any, grid: Any) -> None:
    pipe = build()
    square = picture().resize((32, 32))
    generator = torch.Generator().manual_seed(0)
    expected = diffusion.concept_map(pipe, square, "a corgi", "corgi", grid=grid, generator=generator)[0]
    found = segment(pipe, picture(), word="corgi", side=32, refine=False)
    shares = found.memberships[0]
    assert shares.shape == expected.shape
    odds = torch.from_numpy(shares / (1 - shares))
    torch.testing.assert_close(odds / odds.mean(), expected / expected.mean(), rtol=1e-4, atol=1e-5)
    assert found.labels.shape == (160, 160)


def test_what_has_no_text_is_refused() -> None:
    with pytest.raises(AttentionError, match=r"(?s)Colours has no text.*CLIPModel or SiglipModel.*give a point"):
        segment(Colours(), picture(), preprocess, word="dog")
    with pytest.raises(AttentionError, match="CLIPModel needs preprocess and tokenizer"):
        segment(clip(), picture(), preprocess, word="dog")
    with pytest.raises(AttentionError, match="CLIPModel needs preprocess and tokenizer"):
        segment(clip(), picture(), preprocess, word="dog", tokenizer=5)
    pipe = stable_diffusion()
    with pytest.raises(AttentionError, match=f"side is 1 pixels, and a latent of the pipeline has {pipe.vae_scale_factor}"):
        segment(pipe, picture(), word="corgi", side=1)
    with pytest.raises(AttentionError, match="word is ' '"):
        segment(clip(), picture(), preprocess, word=" ", tokenizer=tokenizer())
    with pytest.raises(AttentionError, match="several of k, point, box, word and the object"):
        segment(clip(), picture(), preprocess, word="dog", k=3)
    model = clip()
    del model.visual_projection
    with pytest.raises(AttentionError, match="built otherwise than those of CLIP and SigLIP"):
        word_scores(model, picture(64), "dog", preprocess, tokenizer(), None)
