"""What a capture keeps: maps, factors, or what reducers make of them."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import collectors

REDUCERS = [
    ac.StationaryVectors(),
    ac.SecondEigenvalues(),
    ac.Bounces("class", 3),
    ac.Bounces("center", 1, name="center_row"),
    ac.ColumnSums(),
    ac.ClassRows(),
    ac.Entropies(),
]


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=48, num_heads=3, img_size=64).eval()
    for block in model.blocks:  # type: ignore[union-attr]
        block.attn.qkv.weight.data *= 8
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def expected(store: ac.AttentionStore, function: Callable[[ac.Chain], Tensor]) -> Tensor:
    return torch.stack([function(store.chain(layer, "each")) for layer in range(len(store))], 1)


def entropy(chain: ac.Chain) -> Tensor:
    rows = -(chain.matrix * chain.matrix.clamp_min(1e-30).log()).sum(-1)
    return rows[..., 1:].mean(-1)


@pytest.mark.parametrize("built", [True, False], ids=["multiplied out", "factored"])
def test_reducers_give_what_the_whole_store_gives(
    vit: nn.Module, images: Tensor, built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not built:
        monkeypatch.setattr(collectors, "_BUILT", 0)
    else:
        monkeypatch.setattr(collectors, "_TOGETHER", 1)  # a head at a time
    store, found = ac.capture(vit, images), ac.capture(vit, images, keep=REDUCERS)
    assert found.names == store.names
    assert found.tokens.grid == (4, 4)
    assert list(found.results) == [reducer.name for reducer in REDUCERS]
    P = lambda function: expected(store, function)  # noqa: E731
    assert found["stationary"].shape == (2, 3, 3, 17)
    assert torch.allclose(found["stationary"], P(ac.stationary), atol=1e-5)
    assert torch.allclose(found["second_eigenvalue"], P(ac.second_eigenvalue), atol=1e-4)
    assert torch.allclose(found["bounce"], P(lambda chain: ac.bounce(chain, 0, 3)), atol=1e-5)
    assert torch.allclose(found["center_row"], P(lambda chain: ac.bounce(chain, store.tokens.center, 1)), atol=1e-5)
    assert torch.allclose(found["column_sum"], P(lambda chain: ac.bounce(chain, chain.uniform, 1)), atol=1e-5)
    assert torch.allclose(found["class_row"], P(lambda chain: ac.bounce(chain, 0, 1)), atol=1e-5)
    assert torch.allclose(found["entropy"], P(entropy), atol=1e-5)


def test_reducers_choose_their_tokens(vit: nn.Module, images: Tensor) -> None:
    found = ac.capture(vit, images, keep=[ac.ColumnSums(), ac.ColumnSums(tokens="all", name="of all")], layers=[0, -1])
    store = ac.capture(vit, images, layers=[-1, 0])
    assert store.names == found.names == ["blocks.0.attn", "blocks.2.attn"], "in the order in which they run"
    assert not found["column_sum"][..., 0].any()
    assert torch.allclose(found["of all"], store.maps().mean(-2), atol=1e-6)


def test_reducers_on_eager_maps_and_on_any_source(vit: nn.Module, images: Tensor) -> None:
    fused = ac.capture(vit, images, keep=REDUCERS)
    for block in vit.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    try:
        eager = ac.capture(vit, images, keep=REDUCERS)
        store = ac.capture(vit, images)
    finally:
        for block in vit.blocks:  # type: ignore[union-attr]
            block.attn.fused_attn = True
    called = ac.capture(lambda _: store, images, keep=REDUCERS)
    for reducer in REDUCERS:
        assert torch.allclose(eager[reducer.name], fused[reducer.name], atol=1e-4)
        assert torch.allclose(called[reducer.name], fused[reducer.name], atol=1e-4)


def test_nothing_of_a_layer_outlives_its_reduction(vit: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    seen: list[Any] = []
    take = collectors.Keeping.take

    def watched(self: Any, name: str, attention: Any, sink: bool = False) -> None:
        gc.collect()
        assert all(earlier() is None for earlier in seen), "an earlier layer's attention is still there"
        seen.append(weakref.ref(attention))
        take(self, name, attention, sink)

    monkeypatch.setattr(collectors.Keeping, "take", watched)
    ac.capture(vit, images, keep=REDUCERS)
    assert len(seen) == 3


def test_stationary_vectors_come_with_the_second_eigenvalues(
    vit: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object, **__: object) -> None:
        raise AssertionError("a second pass")

    monkeypatch.setattr("attnchain_interp.chain.functionals.solve", again)
    ac.capture(vit, images, keep=[ac.StationaryVectors(), ac.SecondEigenvalues()])
    with pytest.raises(AssertionError, match="a second pass"):
        ac.capture(vit, images, keep=[ac.StationaryVectors()])


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


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("everything", "keep='everything' is unknown"),
        ([], "is unknown; use"),
        ([torch.sum], "is unknown; use"),
        ([ac.Bounces(0), ac.Bounces(1)], r"two reducers share a name .bounce, bounce.*Bounces\(…, name=…\)"),
    ],
)
def test_bad_keeps_are_refused(vit: nn.Module, images: Tensor, keep: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.capture(vit, images, keep=keep)


def test_bad_reducers_are_refused(vit: nn.Module, images: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="damping is 2"):
        ac.StationaryVectors(damping=2)
    with pytest.raises(ac.AttentionError, match="nothing is called 'rank'; the capture kept column_sum"):
        ac.capture(vit, images, keep=[ac.ColumnSums()])["rank"]
    with pytest.raises(ac.AttentionError, match="'middle' is unknown"):
        ac.capture(vit, images, keep=[ac.Bounces("middle")])


def test_factors_are_written_and_read(vit: nn.Module, images: Tensor, tmp_path: Any) -> None:
    store = ac.capture(vit, images, keep="factors")
    store.write(tmp_path / "run.safetensors")
    again = ac.AttentionStore.read(tmp_path / "run.safetensors")
    assert all(isinstance(layer.attention, ac.Factors) for layer in again)
    assert torch.equal(again.maps(), store.maps())
    mask = torch.ones(17, 17, dtype=torch.bool).tril()
    query, key = torch.randn(2, 1, 2, 17, 4, generator=torch.Generator().manual_seed(0))
    factors = ac.Factors(query, key[:, :1], 0.3, mask, False, 4.0, torch.zeros(2))
    tokens = ac.TokenLayout.text(torch.ones(1, 17))
    ac.AttentionStore([ac.LayerAttention("a", factors)], tokens).write(tmp_path / "other.safetensors")
    other = ac.AttentionStore.read(tmp_path / "other.safetensors")
    assert torch.equal(other[0].maps, factors.maps())
    assert other[0].below_one
    assert isinstance(other.to("cpu")[0].attention, ac.Factors)
