"""Stores of random maps."""

from __future__ import annotations

import torch

import attnchain_interp as ac


def random_store(layers: int = 2, heads: int = 3, n: int = 10, seed: int = 0, causal: bool = False) -> ac.AttentionStore:
    """Maps (1, head, token, token) over one class token and a square of patches; of a decoder over text."""
    generator = torch.Generator().manual_seed(seed)
    logits = [2 * torch.randn(1, heads, n, n, generator=generator) for _ in range(layers)]
    if causal:
        mask = torch.ones(n, n).triu(1).bool()
        return ac.AttentionStore.from_maps([one.masked_fill(mask, -torch.inf).softmax(-1) for one in logits])
    side = round((n - 1) ** 0.5)
    layout = ac.TokenLayout.image(1, (side, side), prefix=[ac.Role.CLASS])
    return ac.AttentionStore.from_maps([one.softmax(-1) for one in logits], layout)
