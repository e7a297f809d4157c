from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import bundled_vit
from attnchain_evals.perturbation.occlusion.patch_tokens import patch_tokens, replaced, whole_patches
from attnchain_evals.perturbation.patches import Patches


def test_the_tokens_of_a_vision_transformer() -> None:
    model, image = bundled_vit(), torch.rand(1, 3, 56, 56)
    tokens = patch_tokens(model, image)
    assert tokens.model is model
    assert tokens.site is model.patch_drop
    assert (tokens.patches.grid, tokens.prefix) == ((14, 14), 1)
    registers = timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=1, reg_tokens=3, class_token=False, global_pool="avg"
    )
    assert patch_tokens(registers, torch.rand(1, 3, 16, 16))[2:] == (3, Patches((2, 2), (16, 16)))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_patch_is_removed_as_a_whole() -> None:
    removed = torch.zeros(1, 4, 4, dtype=torch.bool)
    removed[0, :2, 2:] = True
    halves = Patches((2, 2), (4, 4))
    assert whole_patches(removed, halves).tolist() == [[False, True, False, False]]
    removed[0, 3, 3] = True
    with pytest.raises(ac.AttentionError, match="the model has 2 × 2 patches, and features cover some of them in part"):
        whole_patches(removed, halves)
    left_over = torch.nn.functional.pad(removed[:, :3], (0, 1, 0, 2))
    assert whole_patches(left_over, halves).tolist() == [[False, True, False, False]], "a rest below and on the right"


def test_an_output_is_replaced_while_the_context_lasts() -> None:
    layer = torch.nn.Identity()

    def doubled(output: Tensor) -> Tensor:
        return 2 * output

    with replaced(layer, doubled):
        assert float(layer(torch.ones(1))) == 2
        with ThreadPoolExecutor(1) as pool:
            assert float(pool.submit(layer, torch.ones(1)).result()) == 1, "a forward of another thread"
    assert float(layer(torch.ones(1))) == 1
    refused = pytest.raises(ac.AttentionError, match="so no token was removed")
    with ThreadPoolExecutor(1) as pool, refused, replaced(layer, doubled):
        pool.submit(layer, torch.ones(1)).result()
