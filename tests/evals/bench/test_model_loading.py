"""Models and images by their names."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from attnchain_evals.bench.model_loading import load, normalization_of
from attnchain_interp import AttentionError


@pytest.mark.parametrize("name", ["bundled", "bundled-encoder", "bundled-decoder"])
def test_the_sample_of_a_bundled_model_fits_it(name: str) -> None:
    loaded = load(name)
    with torch.no_grad():
        assert loaded.model(**loaded.sample) is not None


def test_unknown_names() -> None:
    with pytest.raises(AttentionError, match=r"model 'bundle' is unknown. Did you mean .*\nUse bundled"):
        load("bundle")
    with pytest.raises(AttentionError, match=r"timm knows no model 'vit_tiny_patch16_225'.*\n.*Did you mean 'vit_tiny"):
        load("timm:vit_tiny_patch16_225")


def test_the_normalization_of_a_preprocessing_is_found() -> None:

    def preprocess(image: Image.Image) -> torch.Tensor:
        level = torch.tensor(image.getpixel((0, 0))).double() / 255
        return ((level - 0.25) / 0.5)[None, :, None, None].expand(1, 3, 2, 2)

    mean, std = normalization_of(preprocess)
    assert mean == pytest.approx([0.25] * 3)
    assert std == pytest.approx([0.5] * 3)
