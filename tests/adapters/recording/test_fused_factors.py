"""The factors of fused calls give what the fused call gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_adapters.recording.fused_factors import fused_factors


@pytest.mark.parametrize("kind", ["causal", "bool mask", "float mask", "grouped heads", "scale"])
def test_fused_factors_give_the_fused_output(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    options: dict[str, Any] = {
        "causal": {"is_causal": True},
        "bool mask": {"attn_mask": torch.rand(6, 6, generator=generator) + torch.eye(6) > 0.5},
        "float mask": {"attn_mask": torch.randn(1, 4, 6, 6, generator=generator)},
        "grouped heads": {"enable_gqa": True},
        "scale": {"scale": 0.7},
    }[kind]
    if kind == "grouped heads":
        key, value = key[:, :2], value[:, :2]
    output = F.scaled_dot_product_attention(query, key, value, **options)
    wide = value.repeat_interleave(2, 1) if kind == "grouped heads" else value
    assert torch.allclose(fused_factors(query, key, value, **options).maps() @ wide, output, atol=1e-5)


def test_active_attention_dropout_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match=r"attention dropout 0\.1 is active"):
        fused_factors(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), dropout_p=0.1)


def test_rows_of_padding_may_hold_anything() -> None:
    """Models fill them as they like; only what tokens attend to tells whether a mask is causal with padding."""
    keys = torch.tensor([[True] * 5, [False, False, True, True, True]])[:, None, None]
    causal = torch.ones(5, 5, dtype=torch.bool).tril() & keys
    for filler in (True, False):
        mask = torch.where(keys.mT, causal, filler)
        mask[1, 0, 0, 0] = mask[1, 0, 1, 1] = False
        factors = fused_factors(*torch.randn(3, 2, 4, 5, 8), attn_mask=mask)
        assert factors.causal
        assert factors.mask is not None
        assert torch.equal(factors.mask, keys)
    window = causal & ~causal.tril(-3)
    assert not fused_factors(*torch.randn(3, 2, 4, 5, 8), attn_mask=window).causal
