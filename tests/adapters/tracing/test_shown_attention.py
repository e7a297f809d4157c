"""The attention of a traced model: the modules that are known, and the maps of fused calls."""

from __future__ import annotations

from typing import Any

import nnsight
import pytest
import torch
import transformers
from torch import nn

from attnchain_adapters.tracing.shown_attention import attention_modules, fused_maps


@pytest.mark.parametrize("kind", ["causal", "boolean", "added", "added for each head"])
def test_maps_of_a_fused_call(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    options: dict[str, Any] = {
        "causal": {"is_causal": True},
        "boolean": {"attn_mask": torch.rand(2, 1, 6, 6, generator=generator) + torch.eye(6) > 0.5},
        "added": {"attn_mask": torch.randn(6, 6, generator=generator)},
        "added for each head": {"attn_mask": torch.randn(1, 4, 6, 6, generator=generator)},
    }[kind]
    maps = fused_maps(query, key, value, **options, heads=slice(1, 3))
    output = nn.functional.scaled_dot_product_attention(query, key, value, **options)
    assert torch.allclose(maps @ value[:, 1:3], output[:, 1:3], atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fused_maps(query, key, value, **options, heads=slice(1, 3)), maps)
    with pytest.raises(ValueError, match=r"dropout 0\.1 is active"):
        fused_maps(query, key, value, dropout_p=0.1, heads=slice(1))


def test_only_self_attention_is_known() -> None:
    config = transformers.MBartConfig(
        vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2
    )
    found = [module.path for module in attention_modules(nnsight.NNsight(transformers.MBartModel(config)))]
    assert found == ["model.encoder.layers.0.self_attn", "model.decoder.layers.0.self_attn"]
