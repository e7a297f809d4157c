"""Models as the code of papers writes them: transformers like DINO's, MAE's and CLIP's; torchvision's in a classifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import attnchain_interp as ac

from .contract import TEXT, asked, captured, image, outputs_of, part, refused

NAME = "published code"
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
DROPPED = outputs_of("attn_drop")


class SelfAttention(nn.Module):
    """Returns the mixed values, and the maps beside them where `returns` is set."""

    def __init__(self, returns: bool) -> None:
        super().__init__()
        self.num_heads, self.returns = 2, returns
        self.qkv, self.proj, self.attn_drop = nn.Linear(16, 48), nn.Linear(16, 16), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        maps = self.attn_drop((q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1))
        mixed = self.proj((maps @ v).transpose(1, 2).flatten(2))
        return (mixed, maps) if self.returns else mixed


class Block(nn.Module):
    def __init__(self, returns: bool) -> None:
        super().__init__()
        self.norm, self.attn, self.mlp = nn.LayerNorm(16), SelfAttention(returns), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.attn(self.norm(x))
        x = x + (mixed[0] if self.attn.returns else mixed)
        return x + self.mlp(x).relu()


class Patches(nn.Module):
    """A transformer of 16 patches; with `masking`, a decoder restores all from every second of them."""

    def __init__(self, returns: bool = False, masking: bool = False) -> None:
        super().__init__()
        self.embed, self.cls_token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.blocks, self.head = nn.ModuleList(Block(returns) for _ in range(2)), nn.Linear(16, 5)
        self.decoder_blocks = nn.ModuleList(Block(returns) for _ in range(masking))

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x[:, ::2] if self.decoder_blocks else x], 1)
        for block in self.blocks:
            x = block(x)
        if self.decoder_blocks:
            x = torch.cat([x, x.new_zeros(len(x), 8, 16)], 1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.head(x[:, 0])


class Residual(nn.Module):
    """`nn.MultiheadAttention` over (token, batch, width), masked in the text tower."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ln_1 = nn.MultiheadAttention(16, 2), nn.LayerNorm(16)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.ln_1(x)
        return x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.words = nn.Conv2d(3, 16, 4, 4), nn.Embedding(20, 16)
        self.visual, self.text = (nn.ModuleList(Residual() for _ in range(2)) for _ in range(2))

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        x, y = self.conv(images).flatten(2).permute(2, 0, 1), self.words(words).permute(1, 0, 2)
        mask = torch.full((len(y), len(y)), -torch.inf).triu(1)
        for block in self.visual:
            x = block(x)
        for block in self.text:
            y = block(y, mask)
        return x[0] @ y[-1].mT


@pytest.mark.parametrize("returns", [True, False])
def test_a_transformer_of_patches(returns: bool) -> None:
    torch.manual_seed(0)
    model = Patches(returns)
    store = captured(NAME, model, IMAGES, spy=DROPPED, reading=image(4, 4))
    assert store.names == ["blocks.0.attn", "blocks.1.attn"]
    refused(NAME, r"(?s)17 tokens.*image\(grid=\(4, 4\), class_token=True\)\)\.$", model, IMAGES)


def test_a_masked_autoencoder() -> None:
    torch.manual_seed(0)
    model = Patches(masking=True)
    refused(NAME, r'(?s)blocks.0.attn.*9 tokens.*decoder_blocks.0.attn.*17 tokens.*tower="blocks"', model, IMAGES)
    kept = ac.Reading(tower="blocks", tokens=ac.TokenLayout(torch.tensor([[ac.Role.CLASS] + [ac.Role.PATCH] * 8])))
    captured(NAME, model, IMAGES, spy=part(DROPPED, "blocks"), reading=kept)


def test_two_towers() -> None:
    torch.manual_seed(0)
    model, words = TwoTowers(), torch.randint(0, 20, (2, 16))
    refused(NAME, '(?s)16 tokens.*16 tokens, causal.*tower="visual" or tower="text"', model, IMAGES, words)
    readings = {"visual": image(4, 4, False, tower="visual"), "text": ac.Reading(tower="text", tokens=TEXT.tokens)}
    for tower, reading in readings.items():
        captured(NAME, model, IMAGES, words, spy=part(asked, tower), reading=reading, attribute=False)


def test_torchvisions_transformer_in_a_classifier() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = VisionTransformer(16, 4, 2, 2, 16, 32), nn.Linear(1000, 5)
            for parameter in self.backbone.heads.parameters():  # zeros before training
                nn.init.normal_(parameter)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.backbone(images))

    torch.manual_seed(0)
    model = Classifier()
    store = captured(NAME, model, IMAGES, spy=asked, attribute=False)
    assert (store.tokens.grid, store.tokens.class_token) == ((4, 4), 0)
    own = ac.GradientAttention(model.eval()).attribute(IMAGES, 1)
    alone = ac.GradientAttention(model.backbone).attribute(IMAGES, lambda output: model.head(output)[:, 1])
    assert torch.allclose(own, alone, atol=1e-6)
