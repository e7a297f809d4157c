"""Grids and prefix tokens of timm's models: stages, branches, sizes of images, packed patches."""

from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac

from .test_adapter import built, made


def test_layers_of_different_grids_are_chosen_by_hand() -> None:
    model, images = built("coatnet_nano_rw_224"), torch.rand(1, 3, 64, 64)
    both = r"(?s)3 layers of MaxxVit .* 4×4: layers=slice\(0, 2\); 2×2: layers=slice\(2, 3\)"
    with pytest.raises(ac.AttentionError, match=both):
        ac.capture(model, images)
    assert ac.capture(model, images, layers=slice(0, 2)).tokens.grid == (4, 4)
    assert ac.capture(model, images, layers=-1).tokens.grid == (2, 2)
    assert ac.TokenRank(model, layers=-1).attribute(images).shape == images.shape
    branches = made("crossvit_tiny_240", depth=((1, 1, 1), (1, 1, 1)))
    with pytest.raises(ac.AttentionError, match=r"(?s)8×8: layers=\[0, 2\]; 4×4: layers=\[1, 3\]"):
        ac.capture(branches, torch.rand(1, 3, 32, 32))


def test_stages_take_any_size_that_the_model_takes() -> None:
    store = ac.capture(built("caformer_s18"), torch.rand(1, 3, 72, 104), layers=slice(0, 2))
    assert store.tokens.grid == (5, 7)


def test_a_branch_that_sees_a_crop_is_refused() -> None:
    model = made("crossvit_tiny_240", crop_scale=True)
    assert ac.capture(model, torch.rand(1, 3, 32, 32), layers=-1).tokens.grid == (4, 4)
    with pytest.raises(ac.AttentionError, match=r"sees a crop of \(32, 32\) of images of \(48, 48\)"):
        ac.capture(model, torch.rand(1, 3, 48, 48), layers=-1)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_base_patch16_clip_224"])
def test_dynamic_sizes_give_their_grid(name: str) -> None:
    model = made(name, dynamic_img_size=True)
    assert ac.capture(model, torch.rand(1, 3, 64, 96)).tokens.grid == (4, 6)
    with pytest.raises(ac.AttentionError, match="the images are 64×96 but .* wants 64×64"):
        ac.capture(built(name), torch.rand(1, 3, 64, 96))
    padded = made(name, dynamic_img_size=True, dynamic_img_pad=True)
    assert ac.capture(padded, torch.rand(1, 3, 50, 90)).tokens.grid == (4, 6)


def test_naflex_takes_images_and_packed_patches() -> None:
    model, images = built("naflexvit_base_patch16_map"), torch.rand(2, 3, 48, 64)
    store = ac.capture(model, images)
    assert store.tokens.grid == (3, 4)
    patches = images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 4, 5, 1).reshape(2, 12, -1)
    coordinates = torch.cartesian_prod(torch.arange(3), torch.arange(4)).expand(2, -1, -1)
    packed = {"patches": patches, "patch_coord": coordinates, "patch_valid": torch.ones(2, 12, dtype=torch.bool)}
    assert torch.allclose(ac.capture(model, packed).maps(), store.maps(), atol=1e-5)
    packed["patch_valid"][1, 8:] = False
    short = ac.capture(model, packed)
    assert (short.tokens.grid, short.tokens.mask.sum(1).tolist()) == (None, [13, 9])
    assert torch.allclose(ac.stationary(short.chain(tokens="all")).sum(-1), torch.ones(2), atol=1e-5)
