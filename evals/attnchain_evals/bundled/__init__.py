"""The bundled vision transformer: a timm `VisionTransformer` trained on cluttered digits, shipped with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from attnchain_evals.tasks.cluttered_digits import IMAGE_SIZE
from attnchain_interp.capture import rgb_image

if TYPE_CHECKING:
    from PIL import Image
    from timm.models import VisionTransformer

WEIGHTS = Path(__file__).with_name("vit.safetensors")


def build_vit() -> VisionTransformer:
    """Returns the bundled architecture, freshly initialised: patches of 4, width 96, 6 layers of 4 heads."""
    return fresh_vit(patch_size=4, embed_dim=96, depth=6, num_heads=4)


def fresh_vit(**architecture: Any) -> VisionTransformer:
    """Returns a timm `VisionTransformer` for 56 × 56 input and 10 classes, initialised so that training soon leaves chance.

    It starts from sine-cosine position embeddings, and from a patch embedding that centres and spreads images in [0, 1]
    (`mean` 0 and `std` 1 in its `pretrained_cfg`). Both shorten the time at chance.

    Args:
        architecture: arguments of timm's `VisionTransformer`: `patch_size`, `embed_dim`, `depth`, `num_heads`, …
    """
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
    from timm.models import VisionTransformer

    model = VisionTransformer(img_size=IMAGE_SIZE, num_classes=10, **architecture)
    config = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": (3, IMAGE_SIZE, IMAGE_SIZE)}
    model.pretrained_cfg = config  # pyright: ignore[reportArgumentType] - timm sets it the same way
    with torch.no_grad():
        positions = build_sincos2d_pos_embed(list(model.patch_embed.grid_size), dim=model.embed_dim)
        model.get_parameter("pos_embed")[:, -len(positions) :] = 0.5 * positions
        projection = model.patch_embed.proj
        projection.weight *= 10
        projection.bias.copy_(-0.5 * projection.weight.sum((1, 2, 3)))
    return model


def bundled_vit() -> VisionTransformer:
    """Returns the trained model in eval mode: images (batch, 3, 56, 56) in [0, 1] → logits (batch, 10).

    See `CARD.md` beside the weights for data, training and accuracy. `python -m studies.training.vit` trains it.
    """
    model = build_vit()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()


def preprocess(image: Image.Image) -> Tensor:
    """Returns a PIL image as the model's input (1, 3, 56, 56) in [0, 1], resized to its size."""
    pixels = np.asarray(rgb_image(image).resize((IMAGE_SIZE, IMAGE_SIZE)), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
