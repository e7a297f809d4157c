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


def test_causal_attention_with_padding_holds_the_keys_alone() -> None:
    keys = torch.tensor([[True] * 5, [False, False, True, True, True], [True, True, True, False, False]])[:, None, None]
    causal = torch.ones(5, 5, dtype=torch.bool).tril() & keys
    factors = fused_factors(*torch.randn(3, 3, 4, 5, 8), attn_mask=causal)
    assert factors.causal
    assert factors.mask is not None
    assert torch.equal(factors.mask, keys)
    window = causal & ~causal.tril(-3)
    assert not fused_factors(*torch.randn(3, 3, 4, 5, 8), attn_mask=window).causal


@pytest.mark.parametrize("kind", ["earlier tokens alone", "other tokens alone", "a probe", "padding that attends"])
def test_a_row_without_its_own_token_is_no_padding(kind: str) -> None:
    """A token that does not attend to itself may be one like any other. The mask alone does not tell."""
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    if kind == "earlier tokens alone":
        mask = mask.tril(-1)
        mask[0, 0] = True
    elif kind == "other tokens alone":
        mask = ~torch.eye(5, dtype=torch.bool)
    elif kind == "a probe":
        mask[3] = torch.tensor([False, True, False, False, True])
        mask[:, 3] = False
    else:
        mask[:, 3:] = False
        mask[3:] = torch.tensor([True, True, True, True, False])
        mask[3, 3] = False
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.expand(2, 1, 5, 5))
    maps = fused_factors(query, key, value, attn_mask=mask.expand(2, 1, 5, 5)).maps()
    assert torch.allclose(maps @ value, output, atol=1e-5)
