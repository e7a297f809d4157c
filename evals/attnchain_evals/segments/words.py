"""Where a word is in a photograph, by a model that has text: a pipeline of diffusers, or two towers of text and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_evals.segments.refinement import WHOLE, Share
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_interp import AttentionError, AttentionStore, Role, bounce
from attnchain_interp.diffusion import concept_map

SIDE: Final = 512
"""Pixels of the square that a pipeline is given."""


def word_scores(
    model: Any, image: Any, word: str, preprocess: Callable[[Any], Tensor] | None, tokenizer: Any, side: int | None
) -> tuple[Tensor, Share]:
    """Returns how much each place of a photograph belongs to a word, (row, column), above 0, and where those places lie.

    The second value holds the shares of the photograph's height and width that these places cover.

    A pipeline of diffusers denoises the photograph, squeezed to a square, once with the prompt "a WORD". The walk from the
    word takes two steps (`concept_map`): the image's attention to its tokens, then the image's attention to itself.

    In a model with two towers, patches are compared with the text "a photo of a WORD" by their own values alone, without what
    they attend to (`similarities`). From the similarities above their mean leads one balanced step of the last layer.

    Args:
        model: a pipeline, or a model of transformers with `get_text_features` and `vision_model`.
        image: a PIL image of mode RGB.
        word: one word, or several.
        preprocess: a PIL image → the model's input, of a model with towers.
        tokenizer: of a model with towers.
        side: pixels of the shorter side; of the square, for a pipeline. None: 512 for a pipeline, else as `WholePatches`.

    Raises:
        AttentionError: a model without text, or of another build; no word; towers without preprocess or tokenizer.

    Source: Erel et al. 2025 (bounces from a word); Zhou, Loy & Dai, *Extract Free Dense Labels from CLIP*, ECCV 2022
    (MaskCLIP: the values of patches).
    """
    if not isinstance(word, str) or not word.strip():
        raise AttentionError(f"word is {word!r}.", "Pass a word of your language model, such as word='dog'.")
    if getattr(model, "unet", getattr(model, "transformer", None)) is not None and getattr(model, "tokenizer", None):
        least = getattr(model, "vae_scale_factor", 1)
        if side is not None and side < least:
            raise AttentionError(f"side is {side} pixels, and a latent of the pipeline has {least}.", f"Use {SIDE}.")
        square = image.resize((side or SIDE,) * 2)
        generator = torch.Generator().manual_seed(0)
        return concept_map(model, square, f"a {word}", word, grid=_grid(model, side or SIDE), generator=generator)[0], WHOLE
    if not hasattr(model, "get_text_features") or not hasattr(model, "vision_model"):
        raise AttentionError(
            f"{type(model).__name__} has no text, so no word leads to a segment.",
            "Use a pipeline of diffusers from text to image, or a CLIPModel or SiglipModel of transformers; or give a point.",
        )
    if preprocess is None or not callable(tokenizer):
        raise AttentionError(
            f"{type(model).__name__} needs preprocess and tokenizer to find a word.",
            "Pass tokenizer=AutoTokenizer.from_pretrained(name), and what turns a PIL image into pixel_values.",
        )
    reader = WholePatches(model.vision_model, preprocess, side)
    store = reader.store(image, -1)
    similar = similarities(model, reader.pixels(image), _text(model, tokenizer, word))
    return _carried(store, similar), reader.covered(store, image)


@torch.no_grad()
def similarities(model: Any, pixels: Tensor, text: Tensor) -> Tensor:
    """Returns the cosine (token,) between the text and each token of one image, read by its own value.

    In CLIP this is the output of the last layer's attention if each token attended to itself alone; in SigLIP the output of
    the pooling head if there were this token alone.

    Args:
        model: a model of transformers with two towers.
        pixels: (1, channel, height, width).
        text: (width,) the embedding of a text.

    Raises:
        AttentionError: a tower of images of another build.
    """
    tower = model.vision_model
    if hasattr(tower, "head"):  # SigLIP
        found = tower.head(tower(pixels).last_hidden_state[0][:, None])
    elif hasattr(model, "visual_projection") and hasattr(tower.encoder.layers[-1].self_attn, "v_proj"):
        last = tower.encoder.layers[-1]
        values = last.self_attn.v_proj(last.layer_norm1(tower(pixels, output_hidden_states=True).hidden_states[-2]))
        found = model.visual_projection(tower.post_layernorm(last.self_attn.out_proj(values)))[0]
    else:
        raise AttentionError(
            f"the tower of images in {type(model).__name__} is built otherwise than those of CLIP and SigLIP.",
            "Use a CLIPModel or a SiglipModel.",
        )
    return torch.cosine_similarity(found, text, dim=-1)


def _carried(store: AttentionStore, similar: Tensor) -> Tensor:
    """Returns one balanced step from the patches whose similarity is above their mean: (row, column)."""
    patches = store.tokens.roles[0].to(similar.device) == Role.PATCH
    start = ((similar - similar[patches].mean()).clamp_min(0) * patches).to(store.chain().dtype)
    total = start.sum()
    start = start / total if total > 0 else patches / patches.sum()
    return store.tokens.to_grid(bounce(store.chain(balanced=True), start[None], 1))[0]


@torch.no_grad()
def _text(model: Any, tokenizer: Any, word: str) -> Tensor:
    """Returns the embedding (width,) of "a photo of a WORD", padded as SigLIP was trained."""
    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer([f"a photo of a {word}"], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    place = next(model.parameters()).device
    wanted = {name: tokens[name].to(place) for name in ("input_ids", "attention_mask") if name in tokens}
    return model.get_text_features(**wanted).pooler_output[0]


def _grid(pipe: Any, side: int) -> tuple[int, int] | None:
    """Returns the coarsest grid on which a UNet attends on its way down: 16 × 16 of 512 pixels in Stable Diffusion 1.

    Other denoisers have one grid, and need none.
    """
    unet = getattr(pipe, "unet", None)
    if unet is None:
        return None
    level = max((number for number, kind in enumerate(unet.config.down_block_types) if "Attn" in kind), default=0)
    return (-(-(side // pipe.vae_scale_factor) // 2**level),) * 2
