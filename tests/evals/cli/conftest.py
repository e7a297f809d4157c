"""An image and two small models on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from ..miniatures import write_timm


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def timm_folder(tmp_path: Path) -> str:
    """A timm model on disk, as `timm:local-dir:…` reads it."""
    return write_timm(tmp_path / "tiny")


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
