"""Stores that several test files of this folder use."""

from __future__ import annotations

import pytest
import torch

from attnchain_interp import AttentionStore, TokenLayout


@pytest.fixture
def causal() -> AttentionStore:
    """Two causal layers of two heads; the second example begins with two pads."""
    raw = 2 * torch.randn(2, 2, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    allowed = torch.ones(6, 6, dtype=torch.bool).tril() & mask.bool()[:, None, None]
    return AttentionStore.from_maps(list(raw.masked_fill(~allowed, -torch.inf).softmax(-1)), TokenLayout.text(mask))
