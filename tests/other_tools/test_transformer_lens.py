"""Caches of TransformerLens. It brings some thirty packages, so .ci/run has an environment for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import attnchain_interp as ac

transformer_lens = pytest.importorskip("transformer_lens", reason="transformer-lens is not installed; .ci/run runs this")


@pytest.fixture
def bridge(decoder: Any, tokenizer: Any, tmp_path: Path) -> Any:
    decoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return transformer_lens.TransformerBridge.boot_transformers(str(tmp_path), device="cpu")


def test_the_page(bridge: Any, decoder: Any, ids: torch.Tensor, run_page: Any) -> None:
    store = run_page("transformer_lens", "how-to/from-transformerlens.md", bridge=bridge, ids=ids)["store"]
    expected = ac.capture(decoder, ids).maps()
    assert float(expected[..., -1, :].std(-1).mean()) > 0.02, "a flat map proves nothing"
    assert store.names == ["blocks.0.attn", "blocks.1.attn"]
    assert torch.allclose(store.maps(), expected, atol=1e-5)


def test_whole_caches(bridge: Any, decoder: Any, ids: torch.Tensor) -> None:
    expected = ac.capture(decoder, ids).maps()
    _, whole = bridge.run_with_cache(ids)
    _, dictionary = bridge.run_with_cache(ids, return_cache_object=False)
    _, alone = bridge.run_with_cache(ids, remove_batch_dim=True)
    assert len(whole) > 20
    assert alone["pattern", 0].ndim == 3
    for maps in (whole, dictionary, alone, [whole["pattern", layer] for layer in range(2)]):
        assert torch.allclose(ac.AttentionStore.from_maps(maps).maps(), expected, atol=1e-5)


def test_a_cache_without_patterns(bridge: Any, ids: torch.Tensor) -> None:
    _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_z"))
    with pytest.raises(ac.AttentionError, match=r"(?s)cache of 2 activations without an attention pattern.*names_filter="):
        ac.AttentionStore.from_maps(cache)
