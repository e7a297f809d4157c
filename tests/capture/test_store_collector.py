"""Maps or factors of every layer, as a store."""

import logging
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import Expected, Shown, StoreCollector, store_collector


def test_attention_before_expect_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="Call expect before the forward"):
        StoreCollector().take("a", Shown(torch.eye(2)[None, None]))


def test_each_layer_comes_once_and_as_expected() -> None:
    collector = StoreCollector()
    collector.expect(Expected(ac.TokenLayout.text(torch.ones(1, 2)), 1, 1, False))
    collector.take("a", Shown(torch.eye(2)[None, None]))
    with pytest.raises(ac.AttentionError, match="layer 'a' computed attention twice"):
        collector.take("a", Shown(torch.eye(2)[None, None]))
    with pytest.raises(ac.AttentionError, match="layer 'b' attends from 3 to 3 tokens in a batch of 1, not from 2 to 2"):
        collector.take("b", Shown(torch.eye(3)[None, None]))
    assert collector.result(["a"], {"model": "M"}).metadata == {"model": "M"}


def test_auto_says_what_it_chose(vit: nn.Module, images: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    size = 3 * 3 * 2 * 17 * 17 * 4
    with caplog.at_level(logging.INFO, "attnchain_interp"):
        maps = ac.capture(vit, images, max_bytes=size)
    assert isinstance(maps[0].attention, Tensor)
    assert maps.metadata["kept"] == "maps: the maps take 20.3 KB"
    assert "maps: the maps take 20.3 KB" in caplog.text
    factors = ac.capture(vit, images, max_bytes=size - 1)
    assert isinstance(factors[0].attention, ac.Factors)
    assert factors.metadata["kept"] == "factors: maps would take 20.3 KB"
    assert "factors" in repr(factors)
    assert torch.allclose(factors.maps(), maps.maps(), atol=1e-6)
    assert torch.allclose(ac.TokenRank().score(factors), ac.TokenRank().score(maps), atol=1e-5)


def test_maps_that_do_not_fit_are_refused_before_the_forward(vit: nn.Module, images: Tensor) -> None:
    calls = []
    handle = vit.register_forward_pre_hook(lambda *_: calls.append(time.time()))
    for block in vit.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    try:
        with pytest.raises(ac.AttentionError, match=r"3 layers × 3 heads × 17 tokens take 20\.3 KB, over max_bytes=100"):
            ac.capture(vit, images, max_bytes=100)
        with pytest.raises(ac.AttentionError, match='keep="factors": this model computes attention without the fused call'):
            ac.capture(vit, images, keep="factors")
        assert not calls
        ac.capture(vit, images, max_bytes=100, keep=[ac.ColumnSums()])
    finally:
        handle.remove()
        for block in vit.blocks:  # type: ignore[union-attr]
            block.attn.fused_attn = True


def test_factors_that_do_not_fit_are_refused_at_the_first_layer(
    vit: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = 2 * 2 * 3 * 17 * ac.capture(vit, images, keep="factors")[0].attention.query.shape[-1] * 4  # type: ignore[union-attr]
    asked: list[torch.device] = []
    monkeypatch.setattr(store_collector, "free_bytes", lambda device: asked.append(device) or 3 * each - 1)
    refusal = r"queries and keys of 3 layers × 17 tokens take .* are free.*max_bytes=100\.(?s:.*)Keep reducers"
    with pytest.raises(ac.AttentionError, match=refusal):
        ac.capture(vit, images, max_bytes=100)
    assert len(asked) == 1
    assert len(ac.capture(vit, images, keep="factors")) == 3, "who asks for factors is not asked back"
    monkeypatch.setattr(store_collector, "free_bytes", lambda _: 3 * each)
    assert len(ac.capture(vit, images, max_bytes=100)) == 3


def test_free_memory_is_that_of_the_system() -> None:
    free = store_collector.free_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
    assert store_collector.free_bytes(torch.device("meta")) is None


def test_factors_are_written_and_read(vit: nn.Module, images: Tensor, tmp_path: Any) -> None:
    store = ac.capture(vit, images, keep="factors")
    store.write(tmp_path / "run.safetensors")
    again = ac.AttentionStore.read(tmp_path / "run.safetensors")
    assert all(isinstance(layer.attention, ac.Factors) for layer in again)
    assert torch.equal(again.maps(), store.maps())
    mask = torch.ones(17, 17, dtype=torch.bool).tril()
    query, key = torch.randn(2, 1, 2, 17, 4, generator=torch.Generator().manual_seed(0))
    factors = ac.Factors(query, key[:, :1], scale=0.3, mask=mask, causal=False, softcap=4.0, sinks=torch.zeros(2))
    tokens = ac.TokenLayout.text(torch.ones(1, 17))
    ac.AttentionStore([ac.LayerAttention("a", factors)], tokens).write(tmp_path / "other.safetensors")
    other = ac.AttentionStore.read(tmp_path / "other.safetensors")
    assert torch.equal(other[0].maps, factors.maps())
    assert other[0].below_one
    assert isinstance(other.to("cpu")[0].attention, ac.Factors)
