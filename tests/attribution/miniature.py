"""A model in miniature, whose attention is made of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp import AttentionStore, Role, TokenLayout


def source(images: Tensor, temperature: Tensor | float = 1.0) -> AttentionStore:
    """A model in miniature: two layers of attention among a class token and 2 × 2 patches, made of the image."""
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).mean(-1).flatten(2).mT  # (batch, patch, channel)
    features = torch.cat([patches.mean(1, keepdim=True), patches], 1).float()
    scores = features @ features.mT / temperature
    maps = [torch.stack([(scores * k).softmax(-1), (scores.roll(k, 1)).softmax(-1)], 1) for k in (1, 2)]
    return AttentionStore.from_maps(maps, TokenLayout.image(len(images), (2, 2), prefix=[Role.CLASS]))
