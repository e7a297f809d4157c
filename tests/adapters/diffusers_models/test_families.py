"""The grid of image tokens of each family of denoisers."""

import types

import pytest
import torch

from attnchain_adapters.diffusers_models.families import FAMILIES


def test_flux_names_positions_in_its_ids() -> None:
    ids = torch.zeros(6, 3)
    ids[:, 1], ids[:, 2] = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 0, 1, 2])
    family = FAMILIES["FluxTransformer2DModel"]
    assert family.grids(None, {"img_ids": ids}, "") == family.grids(None, {"img_ids": ids[None]}, "") == (2, 3)


def test_patches_divide_the_latents() -> None:
    model = types.SimpleNamespace(config=types.SimpleNamespace(patch_size=2))
    for name in ("DiTTransformer2DModel", "PixArtTransformer2DModel", "SD3Transformer2DModel"):
        assert FAMILIES[name].grids(model, {"hidden_states": torch.zeros(1, 4, 8, 12)}, "") == (4, 6)


@pytest.mark.parametrize(
    ("module", "grid"),
    [
        ("down_blocks.0.attentions.0", (9, 16)),
        ("down_blocks.2.attentions.1", (3, 4)),
        ("mid_block.attentions.0", (3, 4)),
        ("up_blocks.0.attentions.0", (3, 4)),
        ("up_blocks.1.attentions.0", (5, 8)),
        ("up_blocks.2.attentions.0", (9, 16)),
    ],
)
def test_a_unet_halves_its_grid_and_rounds_up(module: str, grid: tuple[int, int]) -> None:
    model = types.SimpleNamespace(config=types.SimpleNamespace(block_out_channels=(8, 16, 32)))
    for name in ("UNet2DModel", "UNet2DConditionModel"):
        assert FAMILIES[name].grids(model, {"sample": torch.zeros(1, 4, 9, 16)}, module) == grid
