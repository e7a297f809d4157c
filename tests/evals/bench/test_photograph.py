"""A photograph at its own resolution, and the part of it that a model reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, hflip, pil_to_tensor

from attnchain_evals.bench.photograph import MOST, photograph
from attnchain_interp import AttentionStore, LayerAttention, TokenLayout
from attnchain_interp.capture import LoadedModel


def loaded(turned: bool = False) -> LoadedModel:
    def preprocess(image: Image.Image) -> torch.Tensor:
        pixels = center_crop(pil_to_tensor(image)[None] / 255, [20, 20])
        return hflip(pixels) if turned else pixels

    return LoadedModel(torch.nn.Identity(), preprocess, {})


def test_the_part_that_is_read(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path := tmp_path / "a.png")
    found = photograph(loaded(), path)
    assert np.array_equal(found.shown, levels)
    assert np.allclose(found.part or (), (10, 5, 30, 25), atol=0.2)
    assert np.array_equal(found.read, levels[5:25, 10:30])
    assert torch.allclose(found.pixels[0], torch.from_numpy(found.read / 255).permute(2, 0, 1).float())


def test_the_part_on_which_patches_lie(tmp_path: Path) -> None:
    """Patches of 6 pixels lie on 18 of 20, in a photograph and in what an unknown preprocessing makes of it."""
    layout = TokenLayout.image(grid=(3, 3))
    maps = torch.full((1, 1, 9, 9), 1 / 9)
    store = AttentionStore([LayerAttention("layer", maps)], layout, {"patches": "3×3 patches of 6×6 pixels in 20×20"})
    Image.new("RGB", (40, 30)).save(path := tmp_path / "a.png")
    assert np.allclose(photograph(loaded(), path).covered(store), (10, 5, 28, 23), atol=0.2)
    assert photograph(loaded(turned=True), path).covered(store) == (0, 0, 18, 18)
    assert photograph(loaded(turned=True), path).covered(AttentionStore([*store], store.tokens, {})) == (0, 0, 20, 20)


def test_a_large_photograph_is_shown_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (3 * MOST, MOST)).save(path := tmp_path / "a.png")
    assert max(photograph(loaded(), path).shown.shape) == MOST


def test_another_preprocessing_is_shown_by_its_result(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(path := tmp_path / "a.png")
    found = photograph(loaded(turned=True), path)
    assert found.shown.shape == (20, 20, 3)
    assert found.part is None
    assert found.read is found.shown
