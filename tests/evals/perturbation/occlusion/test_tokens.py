"""Occlusions inside a model beside the same done by hand."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import bundled_vit, perturbation_curve
from attnchain_evals.perturbation.occlusion import (
    AttentionMask,
    MaskToken,
    TokenDrop,
)


def halves(size: int) -> Tensor:
    removed = torch.zeros(2, size, size, dtype=torch.bool)
    removed[0, : size // 2], removed[1, :, 8:] = True, True
    return removed


@torch.no_grad()
def test_dropped_tokens_are_not_there() -> None:
    """Rows of different lengths, against the model's own parts called one example at a time."""
    model, pixels = bundled_vit(), torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    removed = halves(56)
    found = TokenDrop().over(model, pixels)(torch.arange(2), removed)
    for row in range(2):
        tokens = model._pos_embed(model.patch_embed(pixels[row : row + 1]))
        kept = ~removed[row, ::4, ::4].flatten()
        tokens = torch.cat([tokens[:, :1], tokens[:, 1:][:, kept]], 1)
        expected = model.forward_head(model.norm(model.blocks(model.norm_pre(tokens))))
        assert torch.allclose(found[row], expected[0], atol=1e-4)
    assert torch.allclose(AttentionMask().over(model, pixels)(torch.arange(2), removed), found, atol=1e-4)
    clean = TokenDrop().over(model, pixels)(torch.arange(2), removed & False)
    assert torch.allclose(clean, model(pixels), atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


def small(kind: str) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_in_transformers_a_dropped_token_is_one_that_nobody_attends_to(kind: str) -> None:
    model, pixels = small(kind), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    dropped = TokenDrop().over(model, pixels)(torch.arange(2), halves(32))
    masked = AttentionMask().over(model, pixels)(torch.arange(2), halves(32))
    assert torch.allclose(dropped, masked.logits, atol=1e-5)
    assert not torch.allclose(dropped, model(pixels).logits, atol=1e-2)


@torch.no_grad()
def test_the_mask_token_is_put_where_the_model_puts_it() -> None:
    model, pixels = small("Dinov2"), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = MaskToken().over(model, pixels)(torch.arange(2), halves(32)).logits
    tokens = model.dinov2(pixels, bool_masked_pos=halves(32)[:, ::8, ::8].flatten(1)).last_hidden_state  # type: ignore[operator]
    expected = model.classifier(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))  # type: ignore[operator]
    assert torch.allclose(found, expected, atol=1e-5)


def test_models_that_do_not_allow_it_are_refused_by_name() -> None:
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "num_classes": 5, "embed_dim": 32, "depth": 1, "num_heads": 2}
    rotary = timm.create_model("eva02_tiny_patch14_224", pretrained=False, **options).eval()
    averaging = timm.models.VisionTransformer(**options, global_pool="avg").eval()
    with pytest.raises(ac.AttentionError, match="Eva does not show its patch tokens"):
        TokenDrop().over(rotary, pixels)
    with pytest.raises(ac.AttentionError, match="the output of VisionTransformer reads patch tokens directly"):
        AttentionMask().over(averaging, pixels)
    with pytest.raises(ac.AttentionError, match="VisionTransformer has no mask token"):
        MaskToken().over(averaging, pixels)
    with pytest.raises(ac.AttentionError, match="function does not show its patch tokens"):
        TokenDrop().over(lambda images: images.mean((2, 3)), pixels)
    with pytest.raises(ac.AttentionError, match="(?s)no output when all of its patches are dropped.*ends=False"):
        perturbation_curve(averaging, pixels, torch.rand(1, 4, 4), occlusion="token-drop", fractions=2)
    partial = perturbation_curve(
        averaging, pixels, torch.rand(1, 4, 4), occlusion="token-drop", fractions=[0.25, 0.5], ends=False
    )
    assert partial.scores.isfinite().all()
    with pytest.raises(ac.AttentionError, match="the model has 4 × 4 patches, and features cover some of them in part"):
        perturbation_curve(averaging, pixels, torch.rand(1, 3, 3), occlusion="token-drop", fractions=2)


def test_layers_that_know_positions_are_found_out() -> None:
    class Positional(nn.Module):
        """Weighs tokens by their place after the embedding."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 2, 8, 8)
            self.patch_drop = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patch_drop(self.patches(images).flatten(2).mT)
            return (tokens * torch.arange(tokens.shape[1])[:, None]).sum(1)

    with pytest.raises(ac.AttentionError, match="layers of Positional know where a token is"):
        TokenDrop().over(Positional().eval(), torch.rand(1, 3, 32, 32))
