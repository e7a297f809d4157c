"""One layer: its operator."""

import pytest
import torch

from attnchain_interp import AttentionError, Factors, LayerAttention, TokenLayout
from attnchain_interp.operators.factored_map import FactoredMap


def test_sixteen_bits_become_float32_and_padding_becomes_empty() -> None:
    maps = torch.rand(1, 2, 3, 3).softmax(-1).to(torch.bfloat16)
    layer = LayerAttention("a", maps)
    assert torch.equal(layer.transitions().dense(), maps.float())
    emptied = layer.unpadded(torch.tensor([[True, True, False]])).dense()
    assert torch.equal(emptied[:, :, :2], maps[:, :, :2].float())
    assert not emptied[:, :, 2].any()


def test_causality_of_factors_is_seen_without_their_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FactoredMap, "_log_sum_exp", lambda _: pytest.fail("the logits are not asked for"))
    query, every = torch.randn(1, 2, 5, 4), torch.ones(1, 5, dtype=torch.bool)
    lower = torch.ones(5, 5, dtype=torch.bool).tril()
    assert LayerAttention("a", Factors(query, query, mask=lower)).causal(every)
    assert not LayerAttention("a", Factors(query, query, mask=lower | lower.mT)).causal(every)
    assert not LayerAttention("a", Factors(query, query)).causal(every)


def test_causal_and_sinks_of_maps_and_factors() -> None:
    query, every = torch.randn(1, 2, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    for causal in (False, True):
        factors = Factors(query, query, causal=causal)
        assert LayerAttention("a", factors).causal(every) == LayerAttention("a", factors.maps()).causal(every) == causal
    assert LayerAttention("a", Factors(query, query, sinks=torch.zeros(2))).below_one
    assert not LayerAttention("a", factors).below_one


def test_maps_must_be_those_of_the_tokens() -> None:
    tokens, probe = TokenLayout.text(torch.ones(1, 3)), TokenLayout.text(torch.ones(1, 1))
    pooled = LayerAttention("pool", torch.full((1, 2, 1, 3), 1 / 3))
    pooled.check(probe, tokens)
    with pytest.raises(AttentionError, match=r"maps of shape \(1, 2, 1, 3\); .* must be \(1, head, 3, 3\)"):
        pooled.check(tokens, tokens)
    with pytest.raises(AttentionError, match="layer 'none' has no heads"):
        LayerAttention("none", torch.zeros(1, 0, 3, 3)).check(tokens, tokens)
    with pytest.raises(AttentionError, match="leads from 1 queries to 3 other tokens"):
        pooled.transitions()


def test_value_norms_fit_the_keys_and_move_along() -> None:
    tokens, maps = TokenLayout.text(torch.tensor([[1, 1, 0]])), torch.full((1, 2, 3, 3), 1 / 3)
    norms = torch.tensor([1.0, 2, torch.nan]).expand(1, 2, 3)
    layer = LayerAttention("a", maps, value_norms=norms)
    layer.check(tokens, tokens)
    moved = layer.to("meta").value_norms
    assert moved is not None
    assert moved.is_meta
    for wrong in (norms[:, :1], -norms, norms.flip(-1)):
        with pytest.raises(AttentionError, match=r"value_norms of layer 'a' .* must hold 1 × 2 × 3 lengths"):
            LayerAttention("a", maps, value_norms=wrong).check(tokens, tokens)
    with pytest.raises(AttentionError, match="value_norms is of type list"):
        LayerAttention("a", maps, value_norms=[1.0])  # type: ignore[arg-type]
