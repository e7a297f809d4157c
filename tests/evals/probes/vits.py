"""Tiny vision transformers and images of classes that anyone can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}


def preprocess(image: Image.Image) -> Tensor:
    pixels = np.asarray(image.convert("RGB").resize((16, 16)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def write_colours(folder: Path, parts: tuple[str, ...] = ("train", "validation"), names: Any = COLOURS, each: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for part in parts:
        for name in names:
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = np.clip(rng.normal(COLOURS[name], 25, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def dino(head: bool = False, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16}
    config: Any = Dinov2Config(patch_size=4, **sizes)
    return (Dinov2ForImageClassification if head else Dinov2Model)(config).eval()


def timm_vit(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7, **sizes | changes).eval()
