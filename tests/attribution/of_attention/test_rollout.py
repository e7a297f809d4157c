"""Rollout of attention and of contributions, beside explicit products of matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import Attribution, NoiseTunnel
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, TokenLayout
from attnchain_interp.capture import Maps

from ...published import PLAIN
from .. import small_models as small


def test_rollout_beside_a_dense_replica(store: AttentionStore) -> None:
    """R = Â_L ⋯ Â_1 with Â = rownorm(mean_h A + I), as an explicit product of matrices."""
    product = torch.eye(5, dtype=torch.float64).expand(2, 5, 5)
    for layer in range(3):
        mixed = store.maps()[:, layer].mean(1) + torch.eye(5, dtype=torch.float64)
        product = mixed / mixed.sum(-1, keepdim=True) @ product
    assert torch.allclose(ac.Rollout().score(store), product[:, 0])
    assert torch.allclose(ac.Rollout(start=3).score(store), product[:, 3])
    assert torch.allclose(ac.Rollout(start="uniform").score(store), product.mean(1))
    assert torch.allclose(ac.Rollout(layers=[2, 1, 0]).score(store), product[:, 0]), "in the order of the model"
    captured = ac.Rollout(lambda _: store, layers=[2, 1, 0]).attribute(torch.zeros(2, 3, 4, 4), output="tokens")
    assert torch.allclose(captured.to(product), product[:, 0], atol=1e-6)


def test_rollout_without_a_class_token_starts_everywhere(logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.text(torch.ones(2, 5)))
    assert torch.allclose(ac.Rollout().score(store), ac.Rollout(start="uniform").score(store))


def rollout_replica(maps: Tensor, discard: float, residual: float) -> Tensor:
    """(token, token): the product of r I + (1 − r) A over layers (layer, token, token), token 0 the class token."""
    n = maps.shape[-1]
    product = torch.eye(n, dtype=maps.dtype)
    for A in maps:
        left = A.clone()
        for i in range(n):
            lowest = sorted(range(1, n), key=lambda j: float(A[i, j]))[: int(discard * n)]
            left[i, lowest] = 0
            left[i] = left[i] / left[i].sum()
        product = (residual * torch.eye(n) + (1 - residual) * left) @ product
    return product


@pytest.mark.parametrize("discard", [0.0, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("residual", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_with_fused_heads_beside_a_dense_replica(
    store: AttentionStore, heads: str, residual: float, discard: float
) -> None:
    fuse: dict[str, Any] = {"mean": lambda A: A.mean(1), "max": lambda A: A.amax(1), "min": lambda A: A.amin(1)}
    found = ac.Rollout(heads=heads, discard=discard, residual=residual).score(store)
    for row in range(2):
        expected = rollout_replica(fuse[heads](store.maps()[row]), discard, residual)[0]
        assert torch.allclose(found[row], expected), "every example, not the first alone"
    assert torch.allclose(found.sum(-1), torch.ones(2).double())


@pytest.mark.parametrize("layers", ["all", [0, 2], slice(1, None)])
def test_a_walk_stays_less_the_deeper_the_layer(layers: Any) -> None:
    """residual="depth": r is 1, 2/3, 1/3, 0 in a model of four layers, whichever of them are captured."""
    model, images = small.vit(4), small.images()
    store, expected = ac.capture(model, images), torch.eye(7, dtype=torch.float64)
    for layer in [0, 2] if layers == [0, 2] else range(4)[layers] if isinstance(layers, slice) else range(4):
        r = 1 - layer / 3
        expected = (r * torch.eye(7) + (1 - r) * store[layer].maps.mean(1)) @ expected
    method = ac.Rollout(model, residual="depth", layers=layers)
    assert torch.allclose(method.score(store), expected[:, 0])
    assert torch.allclose(method.attribute(images, output="tokens"), expected[:, 0])


def test_a_walk_from_the_only_layer_stays() -> None:
    store = ac.capture(small.vit(1), small.images())
    assert torch.equal(ac.Rollout(residual="depth").score(store), torch.eye(7, dtype=torch.float64)[[0, 0]])


def test_rollout_discards_no_column_of_the_start_or_the_class_token(store: AttentionStore) -> None:
    """Four of five entries go, of three that may: those of the class token and of the start are left."""
    row = store.maps()[:, -1].mean(1)[:, 3] * torch.tensor([1, 0, 0, 1, 0])
    found = ac.Rollout(start=3, layers=-1, discard=0.8, residual=0).score(store)
    assert torch.allclose(found, row / row.sum(-1, keepdim=True))


def test_rollout_from_everywhere_discards_in_every_column(logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.text(torch.ones(2, 5)))
    found = ac.Rollout(layers=0, discard=0.8, residual=0).score(store)
    greatest = torch.nn.functional.one_hot(store.maps()[:, 0].mean(1).argmax(-1), 5).double()
    assert torch.allclose(found, greatest.mean(1))


def test_rollout_counts_what_it_discards_among_the_tokens_of_each_example() -> None:
    """The second example is the first one's with two pads; half of four tokens is two, not three."""
    A = (2 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).softmax(-1)
    padded = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    padded[..., :4, :4] = A
    padded[..., 4:, :] = torch.nan
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    for heads in ("mean", "max", "min"):
        method = ac.Rollout(heads=heads, start=1, discard=0.5)
        alone = method.score(AttentionStore.from_maps([A, A]))
        found = method.score(AttentionStore.from_maps([padded, padded], TokenLayout.text(mask)))
        assert torch.allclose(found[:, :4], alone)
        assert not found[:, 4:].any()


def test_a_row_of_which_fusion_leaves_nothing_stays() -> None:
    """Two heads that look at different tokens have no attention in common."""
    apart = torch.stack([torch.eye(3), torch.eye(3).roll(1, 1)])[None]
    assert ac.Rollout(start=1, heads="min").score(AttentionStore.from_maps([apart])).tolist() == [[0, 1, 0]]


def test_rollout_refuses_what_is_no_share() -> None:
    with pytest.raises(ac.AttentionError, match="discard is 1; it is the share of a row that is dropped, from 0 to below 1"):
        ac.Rollout(discard=1)
    with pytest.raises(ac.AttentionError, match="residual is -0.1; it is the probability of staying"):
        ac.Rollout(residual=-0.1)


def product(store: ac.AttentionStore) -> Tensor:
    """C_L ⋯ C_1 (batch, token, token)."""
    whole = torch.eye(store.maps().shape[-1], dtype=torch.float64).expand(store.tokens.batch, -1, -1)
    for layer in store:
        whole = layer.maps[:, 0] @ whole
    return whole


HOLDING: list[Maps] = ["norm-res", "norm-resln", "projection", "alti"]


@pytest.mark.parametrize("maps", HOLDING)
def test_rollout_of_contributions_beside_the_product_of_the_maps(maps: Maps) -> None:
    model, images = small.vit(depth=3), small.images()
    store = ac.capture(model, images, maps=maps)
    rolled = ac.Rollout().score(store)
    assert torch.allclose(rolled, product(store)[:, 0])
    assert torch.equal(ac.Rollout(model, maps=maps).attribute(images, output="tokens"), rolled)
    assert torch.allclose(rolled.sum(1), torch.ones(2, dtype=torch.float64))
    assert float((rolled - ac.Rollout(model).attribute(images, output="tokens")).abs().max()) > 0.01
    assert torch.allclose(ac.Rollout(start=3).score(store), product(store)[:, 3])
    some = ac.Rollout(layers=[2, 1]).score(store)
    assert torch.allclose(some, (store[2].maps[:, 0] @ store[1].maps[:, 0])[:, 0])
    assert torch.equal(ac.Rollout(model, maps=maps, layers=[2, 1]).attribute(images, output="tokens"), some)


@pytest.mark.parametrize(("maps", "residual"), [("attention", 0.5), ("norm", 0.5), *((maps, 0) for maps in HOLDING)])
def test_a_walk_stays_where_the_maps_lack_the_residual_connection(maps: Maps, residual: float) -> None:
    """Unless a number says with which probability it stays."""
    store = ac.capture(small.vit(), small.images(), maps=maps)
    found = {r: ac.Rollout(residual=r).score(store) for r in (None, 0, 0.2, 0.5)}
    assert torch.equal(found[None], found[residual])
    assert not any(torch.allclose(found[r], found[None], atol=1e-3) for r in (0, 0.2, 0.5) if r != residual)


def test_padding_is_outside() -> None:
    model, ids, mask = small.bert(), small.ids(), torch.ones(2, 7)
    mask[1, 4:] = 0
    padded = ac.Rollout(model, maps="alti").attribute(ids, additional_forward_args=mask)
    assert not padded[1, 4:].any()
    alone = ac.Rollout(model, maps="alti").attribute(ids[1:, :4])
    assert torch.allclose(padded[1:, :4], alone)


def test_a_decoder_from_its_last_token() -> None:
    model, ids = small.llama(), small.ids()
    last = ac.Rollout(model, start=-1, maps="alti").attribute(ids, output="tokens")
    assert torch.allclose(last, product(ac.capture(model, ids, maps="alti"))[:, -1])


def test_captums_contract_of_contributions() -> None:
    model, images = small.vit(), small.images(3)
    method = ac.Rollout(model, maps="alti")
    assert isinstance(method, Attribution)
    heat = method.attribute(images)
    assert (heat.shape, heat.dtype, heat.is_contiguous()) == (images.shape, images.dtype, True)
    assert torch.equal(method.attribute(images, 2), heat), "it knows no class"
    assert torch.allclose(method.attribute(images, internal_batch_size=2), heat)
    assert torch.equal(method.attribute(images, output="grid"), heat[:, 0, ::4, ::4])
    still: Any = NoiseTunnel(method).attribute(images, nt_samples=1, stdevs=0.0)
    assert torch.allclose(still, heat)
    with pytest.raises(ac.AttentionError, match="no residual to return"):
        method.attribute(images, return_convergence_delta=True)


def test_other_methods_read_the_same_maps(tmp_path: Path) -> None:
    model, images = small.vit(), small.images()
    store = ac.capture(model, images, maps="alti")
    ranks = ac.TokenRank(lambda x: ac.capture(model, x, maps="alti")).attribute(images, output="tokens")
    assert torch.allclose(ranks, ac.TokenRank().score(store))
    assert torch.allclose(ac.MultiBounce(steps=2, **PLAIN).score(store), ac.bounce(store.chain(), 0, steps=2))
    store.write(tmp_path / "contributions.safetensors")
    read = ac.AttentionStore.read(tmp_path / "contributions.safetensors")
    assert torch.equal(ac.Rollout().score(read), ac.Rollout().score(store))
