from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, LayerAttention, TokenLayout
from attnchain_interp.operators import Dense


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
@pytest.mark.parametrize("heads", ["mean", [0, 2]])
def test_chain_beside_a_dense_replica(store: AttentionStore, logits: Tensor, heads: Any, direction: Any) -> None:
    """Drop the class token's logits, softmax, average heads, then layers; reverse by columns."""
    chosen = [0, 1, 2] if heads == "mean" else heads
    expected = logits[1:, :, chosen][..., 1:, 1:].softmax(-1).mean((0, 2))
    if direction == "outgoing":
        expected = (expected / expected.sum(-2, keepdim=True)).mT
    chain = store.chain(layers=slice(1, None), heads=heads, direction=direction)
    assert torch.allclose(chain.matrix[:, 1:, 1:], expected)
    assert not chain.matrix[..., 0].any()
    assert chain.states[:, 0].logical_not().all()


def test_the_class_token_enters_by_its_own_row_or_column(store: AttentionStore, logits: Tensor) -> None:
    row = logits[2, :, 1, 0, 1:].softmax(-1)
    assert torch.allclose(store.chain(-1, [1]).matrix[:, 0, 1:], row)
    maps = logits[2, :, 1].softmax(-1)
    scaled = maps / maps[..., 1:].sum(-1, keepdim=True)
    column = scaled[:, 1:, 0] / scaled[:, 1:, 0].sum(-1, keepdim=True)
    assert torch.allclose(store.chain(-1, [1], direction="outgoing").matrix[:, 0, 1:], column)


def test_each_head_by_itself(store: AttentionStore, logits: Tensor) -> None:
    chain = store.chain(0, "each", tokens="all")
    assert torch.allclose(chain.matrix, logits[0].softmax(-1))
    assert chain.states.shape == (2, 3, 5)


def test_padding_is_never_a_state(logits: Tensor) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    raw = logits[:, :, :, :, :].masked_fill(~mask.bool()[:, None, None], -torch.inf)
    maps = raw.softmax(-1)
    maps[:, 1, :, 3:] = torch.nan  # what a fully masked query may hold
    chain = AttentionStore.from_maps(list(maps), TokenLayout.text(mask)).chain()
    assert torch.allclose(chain.matrix[1, :3, :3], raw[:, 1, :, :3, :3].softmax(-1).mean((0, 1)))
    pi = ac.stationary(chain)
    assert float(pi[1, :3].sum()) == pytest.approx(1)
    assert not pi[1, 3:].any()


def replica(P: Tensor) -> Tensor:
    columns = P / P.sum(-2, keepdim=True)
    return columns / columns.sum(-1, keepdim=True)


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_the_mean_chain_is_balanced(store: AttentionStore, logits: Tensor, direction: Any) -> None:
    """Heads and layers are averaged, then balanced. The class token enters by its own row or column."""
    plain = store.chain(direction=direction)
    found = store.chain(direction=direction, balanced=True)
    expected = replica(logits[..., 1:, 1:].softmax(-1).mean((0, 2)))
    if direction == "outgoing":
        expected = (expected / expected.sum(-2, keepdim=True)).mT
    assert torch.allclose(found.matrix[:, 1:, 1:], expected)
    assert torch.equal(found.matrix[:, 0], plain.matrix[:, 0])
    assert not torch.allclose(found.matrix, plain.matrix, atol=1e-2)


def test_each_head_is_balanced(store: AttentionStore, logits: Tensor) -> None:
    found = store.chain(0, "each", tokens="all", balanced=True)
    assert torch.allclose(found.matrix, replica(logits[0].softmax(-1)))


def test_padding_neither_gives_nor_takes_in_a_balanced_chain(logits: Tensor) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    maps = logits.masked_fill(~mask.bool()[:, None, None], -torch.inf).softmax(-1)
    maps[:, 1, :, :2] = torch.nan  # what a fully masked query may hold
    for sink in ("drop", "absorb"):
        chain = AttentionStore.from_maps(list(maps), TokenLayout.text(mask)).chain(balanced=True, sink=sink)  # type: ignore[arg-type]
        assert torch.allclose(chain.matrix[1, 2:, 2:], replica(logits[:, 1, :, 2:, 2:].softmax(-1).mean((0, 1))))
        assert not chain.matrix[1, 2:, :2].any()


def test_an_absorbing_chain_is_balanced(store: AttentionStore, logits: Tensor) -> None:
    found = store.chain(-1, [1], sink="absorb", balanced=True).matrix[:, 1:, 1:]
    inner = logits[2, :, 1].softmax(-1)[:, 1:, 1:]
    assert torch.allclose(found, replica(inner) * inner.sum(-1, keepdim=True))


def leaky(n: int = 20) -> Tensor:
    """A map (1, 1, n, n) whose walks seldom enter the first token."""
    logits = 2 * torch.randn(1, 1, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[..., 0] -= 4
    return logits.softmax(-1)


@pytest.mark.parametrize("change", [lambda maps: (maps * 1.0009).float(), lambda maps: (maps * 0.997).half(), Tensor.bfloat16])
def test_rows_of_an_absorbing_chain_are_divided_by_their_sums(change: Any) -> None:
    maps = change(leaky())
    inside = list(range(1, 20))
    chain = AttentionStore.from_maps([maps]).chain(sink="absorb", tokens=inside)
    wanted = ac.expected_visits(ac.absorb(maps[0], torch.arange(20) == 0))
    assert torch.allclose(ac.expected_visits(chain), wanted, rtol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_a_walk_that_nothing_absorbs_never_ends(seed: int) -> None:
    """Rows widened from float32 sum to one, whatever the sign of their rounding."""
    maps = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).softmax(-1).double()
    with pytest.raises(ac.AttentionError, match="does not end"):
        ac.expected_visits(AttentionStore.from_maps([maps]).chain(sink="absorb"))


def test_a_sink_takes_its_share_of_an_absorbing_chain() -> None:
    maps = leaky() * torch.linspace(0.2, 1.0009, 20, dtype=torch.float64)[:, None]
    layer = LayerAttention("a", maps.float(), sink=True)
    chain = AttentionStore([layer], TokenLayout.text(torch.ones(1, 20))).chain(sink="absorb")
    assert torch.allclose(chain.matrix.sum(-1)[0], maps.sum(-1)[0, 0].clamp_max(1).float(), atol=1e-6)


def test_layers_are_weighted(store: AttentionStore, logits: Tensor) -> None:
    maps = logits[..., 1:, 1:].softmax(-1)
    chain = store.chain([2, 0], layer_weights=[1, 3])
    assert torch.allclose(chain.matrix[:, 1:, 1:], (maps[0] / 4 + maps[2] * 0.75).mean(1))
    late = store.chain(heads="each", layer_weights="late")
    assert torch.allclose(late.matrix[..., 1:, 1:], maps[1] / 3 + maps[2] * 2 / 3)
    absorbing = store.chain(sink="absorb", layer_weights="late", heads=[0])
    assert torch.allclose(absorbing.matrix, _without_class(logits[1].softmax(-1) / 3 + logits[2].softmax(-1) * 2 / 3)[:, 0])
    by_example = store.chain(layer_weights=lambda store: torch.eye(3)[: store.batch])
    assert torch.allclose(by_example.matrix[:, 1:, 1:], torch.stack([maps[0, 0].mean(0), maps[1, 1].mean(0)]))


def _without_class(maps: Tensor) -> Tensor:
    return maps * (torch.arange(maps.shape[-1]) > 0)


def test_a_layer_that_weighs_nothing_is_not_read(store: AttentionStore) -> None:
    odd = AttentionStore([LayerAttention("odd", store[0].maps[:, :2]), store[1], store[2]], store.tokens)
    with pytest.raises(ac.AttentionError, match="head 2 does not exist"):
        odd.chain(heads=[2])
    assert torch.equal(odd.chain(heads=[2], layer_weights="late").matrix, store.chain(heads=[2], layer_weights="late").matrix)


def test_factors_are_weighted_and_balanced_as_their_maps_are() -> None:
    query, key = torch.randn(2, 3, 2, 2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layers = [ac.Factors(q, k, causal=True) for q, k in zip(query, key, strict=True)]
    tokens = TokenLayout.text(torch.ones(2, 7))
    lazy, dense = (
        AttentionStore([LayerAttention(str(k), layer) for k, layer in enumerate(found)], tokens)
        for found in (layers, [layer.maps() for layer in layers])
    )
    for heads in ("mean", "each"):
        chains = [store.chain(heads=heads, balanced=True, layer_weights=[0.2, 0.5, 0.3]) for store in (lazy, dense)]
        assert not isinstance(chains[0].transitions, Dense)
        assert torch.allclose(chains[0].matrix, chains[1].matrix, atol=1e-6)
        assert torch.allclose(ac.stationary(chains[0]), ac.stationary(chains[1]), atol=1e-5)
