"""A small vision transformer whose attention is sharp."""

import pytest
import timm
import torch
from torch import Tensor, nn


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=48, num_heads=3, img_size=64).eval()
    for block in model.blocks:  # type: ignore[union-attr]
        block.attn.qkv.weight.data *= 8
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
