"""Attention probabilities of nnterp. It needs an older nnsight than ours, so .ci/run has an environment for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac

nnterp = pytest.importorskip("nnterp", reason="nnterp is not installed; .ci/run runs this, with nnsight<0.8")


def test_the_page(decoder: Any, tokenizer: Any, ids: torch.Tensor, run_page: Any) -> None:
    expected = ac.capture(decoder, ids).maps()
    assert float(expected[..., -1, :].std(-1).mean()) > 0.02, "a flat map proves nothing"
    decoder.set_attn_implementation("eager")
    model = nnterp.StandardizedTransformer(decoder, tokenizer=tokenizer, enable_attention_probs=True)
    store = run_page("nnterp", ac=ac, model=model)["store"]
    assert store.names == ["layer.0", "layer.1"]
    assert torch.allclose(store.maps(), expected, atol=1e-5)
