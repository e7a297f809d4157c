"""Direct effects beside a dense replica that holds every summand, and beside a small Llama's own attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.capture import AttentionBlock, DirectEffectCollector, Shown, capture_direct_effects, direct_effects

from ..attribution import small_models as small
from .test_attention_block import BATCH, WIDTH, N, block, gated


def direction(*read: int) -> Tensor:
    d = torch.zeros(BATCH, N, WIDTH, dtype=torch.float64)
    d[:, list(read)] = torch.randn(BATCH, len(read), WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return d


def dense(found: AttentionBlock, d: Tensor) -> Tensor:
    """Σ_i Σ_h max(0, ⟨d_i, s_i ⊙ W^h (g_i^h ⊙ A_ij^h v_j^h)⟩), each summand by itself."""
    assert isinstance(found.attention, Tensor)
    each = found.attention[..., None] * found.values[:, :, None]  # (batch, head, query, key, dim)
    if found.gate is not None:
        each = each * found.gate[:, :, :, None]
    if found.projection is not None:
        each = torch.einsum("bhijd,hdw->bhijw", each, found.projection)
    if found.scale is not None:
        each = each * found.scale[:, None, :, None]
    return torch.einsum("bhijw,biw->bhij", each, d).relu().sum((1, 2))


@pytest.mark.parametrize("read", [(4,), (1, 3), ()])
def test_beside_every_summand(read: tuple[int, ...]) -> None:
    found = block(normalised=False)
    effects = direct_effects(found, direction(*read))
    assert effects.shape == (BATCH, N)
    assert torch.allclose(effects, dense(found, direction(*read)), atol=1e-12)
    assert bool(effects.any()) == bool(read)


@pytest.mark.parametrize("gate", [None, 1, 4])
@pytest.mark.parametrize("scale", [None, 1, WIDTH])
def test_gates_and_scales(gate: int | None, scale: int | None) -> None:
    found = gated(block(normalised=False), gate, scale)
    effects = direct_effects(found, direction(2, 4))
    assert torch.allclose(effects, dense(found, direction(2, 4)), atol=1e-12)
    assert effects.any()


def test_a_model_beside_its_own_attention() -> None:
    model, ids = small.llama(), small.ids()
    d = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    eager, values_of = small.llama("eager"), list[Tensor]()
    for layer in eager.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda _, __, output: values_of.append(output))
    with torch.no_grad():
        maps = eager(ids, output_attentions=True).attentions
    found = capture_direct_effects(model, ids, direction=d)
    for k, layer in enumerate(model.model.layers):
        values = values_of[k][:, None].expand(-1, 3, -1, -1)  # one key head for three heads
        projection = layer.self_attn.o_proj.weight.T.unflatten(0, (3, 16))
        each = torch.einsum("bhij,bhjd,hdw,biw->bhij", maps[k], values, projection, d)
        assert torch.allclose(found[:, k], each.relu().sum((1, 2)), atol=1e-9)
    some = capture_direct_effects(model, ids, direction=d, layers=[2, 0])
    assert torch.equal(some, found[:, [2, 0]])
    assert torch.allclose(capture_direct_effects(small.llama("eager"), ids, direction=d), found, atol=1e-9)


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)'x' is normalised after the addition.*\n.*TokenRank"):
        direct_effects(block(normalised=True), direction(4))
    with pytest.raises(ac.AttentionError, match="normalised after the addition"):
        capture_direct_effects(small.bert(), small.ids(), direction=torch.ones(2, 7, 48))
    with pytest.raises(ac.AttentionError, match=r"(?s)direct effects need.*TokenRank"):
        capture_direct_effects(lambda ids: ids, small.ids(), direction=torch.ones(2, 7, 48))
    collector = DirectEffectCollector(direction(4))
    assert repr(collector) == "DirectEffectCollector(direction=(2, 5, 7))"
    assert collector.wants_blocks
    with pytest.raises(ac.AttentionError, match="layer 'a' showed its attention alone"):
        collector.take("a", Shown(torch.ones(1, 1, 2, 2) / 2))
