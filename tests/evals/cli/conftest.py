"""An image and two small models on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import transformers
from PIL import Image
from safetensors.torch import save_file


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def timm_folder(tmp_path: Path) -> str:
    """A timm model on disk, as `timm:local-dir:…` reads it."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    arguments: dict[str, Any] = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **arguments)
    save_file(model.state_dict(), folder / "model.safetensors")
    config: dict[str, Any] = {"architecture": "vit_tiny_patch16_224", "num_classes": 1000, "model_args": arguments}
    config["pretrained_cfg"] = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps(config))
    return f"timm:local-dir:{folder}"


@pytest.fixture
def hf_folder(tmp_path: Path) -> str:
    folder = tmp_path / "dino"
    config = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=56, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return f"hf:{folder}"
