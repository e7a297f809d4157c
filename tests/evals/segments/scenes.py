"""A model whose attention stays within areas of a known picture, and the picture. Small towers of text and images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor

import attnchain_interp as ac

from ...tiny_pipelines import LENGTH, WORDS

AREAS = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 2]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


def picture(size: int = 160) -> Any:
    """A square photograph of three flat areas: the left half, and the quarters at the right."""
    areas = AREAS.numpy().repeat(size // 8, 0).repeat(size // 8, 1)
    return Image.fromarray(COLOURS[areas])


def preprocess(image: Any, side: int = 64) -> Tensor:
    shares = torch.from_numpy(np.asarray(image.convert("RGB").resize((side, side)), np.float32)) / 255
    return (shares.permute(2, 0, 1)[None] - 0.5) / 0.25


class Colours:
    """Attends to patches of the same colour: a class token, then patches of 8 pixels, in three layers without weights.

    A rest of less than 8 pixels on the right and below is not read.
    """

    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        self.sizes = sizes

    def __call__(self, images: Tensor) -> Any:
        if self.sizes and not {*images.shape[2:]} <= {*self.sizes}:
            raise ac.AttentionError("wrong size.", "Use another.")
        means = torch.nn.functional.avg_pool2d(images, 8)
        grid = (means.shape[2], means.shape[3])
        patches = means.flatten(2).mT
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        maps = (-2.0 * torch.cdist(tokens, tokens)).softmax(-1)[:, None]
        layout = ac.TokenLayout.image(len(images), grid, class_token=True)
        lie = "{}×{} patches of 8×8 pixels in {}×{}".format(*grid, *images.shape[2:])
        return ac.AttentionStore([ac.LayerAttention(f"layer {i}", maps) for i in range(3)], layout, {"patches": lie})


SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT: dict[str, Any] = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "projection_size": 16}
IMAGES: dict[str, Any] = {**SIZES, "image_size": 64, "patch_size": 8}
SPECIAL: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def clip() -> Any:
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config={**TEXT, **SPECIAL}, vision_config=IMAGES, projection_dim=12)
    return _spread(transformers.CLIPModel(config).eval())


def siglip() -> Any:
    torch.manual_seed(0)
    config = transformers.SiglipConfig(text_config={**TEXT, **SPECIAL}, vision_config=IMAGES)
    return _spread(transformers.SiglipModel(config).eval())


def _spread(model: Any) -> Any:
    """With weights as large as trained ones, so that patches differ."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 4)
    return model
