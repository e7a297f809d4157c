"""Attention held as queries and keys: its map, its parts, and the factors that are refused."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp.operators import Factors
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.factors import products_of_groups
from attnchain_interp.store import LayerAttention

from .factored import N, build, dense, every_case


@every_case
def test_some_heads_and_some_tokens(options: dict[str, Any]) -> None:
    factors = build(**options)
    for chosen in (slice(1, 3), slice(3, 4), slice(2, 4), slice(0, 4, 2)):
        assert torch.allclose(factors.heads(chosen).maps(), factors.maps()[:, chosen], atol=1e-6)
    tokens = torch.arange(3, N, 2)
    kept = dense(factors)[:, :, tokens][..., tokens]
    if factors.sinks is None:
        few = kept.sum(-1, keepdim=True)
        assert torch.allclose(factors.among(tokens).maps().double(), torch.where(few > 0, kept / few, 0), atol=1e-5)


def test_the_forward_attention_itself() -> None:
    factors = build(causal=True)
    value = torch.randn(2, 4, N, 16)
    expected = F.scaled_dot_product_attention(factors.query, factors.key, value, is_causal=True)
    assert torch.allclose(factors.maps() @ value, expected, atol=1e-5)


@pytest.mark.parametrize(("heads", "key_heads"), [(6, 2), (3, 3), (4, 1)])
def test_heads_that_share_a_key_are_multiplied_together(heads: int, key_heads: int) -> None:
    left, right = torch.randn(2, heads, 5, 4), torch.randn(2, key_heads, 7, 4)
    expected = left @ right.repeat_interleave(heads // key_heads, 1).mT
    assert torch.allclose(products_of_groups(left, right), expected, atol=1e-6)
    expected = left @ right[:1].repeat_interleave(heads // key_heads, 1).mT
    assert torch.allclose(products_of_groups(left, right[:1]), expected, atol=1e-6)


def test_heads_with_nan_are_named() -> None:
    query, key = torch.zeros(2, 4, 5, 8), torch.zeros(2, 4, 5, 8)
    key[1, 2, 3, 4], key[0, 3] = torch.nan, torch.inf
    with pytest.raises(ac.AttentionError, match=r"key holds NaN .*\(example, head\) \(0, 3\), \(1, 2\)\."):
        Factors(query, key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 5, 4)}, r"must be \(batch, head, token, dim\)"),
        ({"key": torch.zeros(2, 4, 5, 9)}, r"differ in batch or dim .*\(2, 4, 5, 9\)"),
        ({"key": torch.zeros(2, 4, 6, 8), "causal": True}, "causal attention needs as many keys as queries"),
        ({"key": torch.zeros(2, 3, 5, 8)}, "4 query heads cannot share 3 key heads"),
        ({"key": torch.zeros(2, 4, 5, 8, device="meta")}, "different devices .query on cpu, key on meta"),
        ({"query": torch.zeros(2, 4, 5, 8, dtype=torch.long)}, "must be floating point"),
        ({"query": torch.full((2, 4, 5, 8), torch.nan)}, "NaN or infinity"),
        ({"key": torch.full((2, 4, 5, 8), torch.inf)}, "NaN or infinity"),
        ({"mask": torch.ones(5, 5, dtype=torch.long)}, "mask is torch.int64"),
        ({"mask": torch.ones(6, 6, dtype=torch.bool)}, r"mask has shape \(6, 6\); it must broadcast to \(2, 4, 5, 5\)"),
        ({"softcap": 0.0}, "softcap is 0.0"),
        ({"sinks": torch.zeros(3)}, r"sinks has shape \(3,\); it must be \(4,\)"),
    ],
)
def test_bad_factors_are_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"query": torch.zeros(2, 4, 5, 8), "key": torch.zeros(2, 4, 5, 8), **change}
    with pytest.raises(ac.AttentionError, match=message):
        Factors(**given)


def test_queries_and_keys_of_other_tokens_make_a_map_but_no_chain() -> None:
    query, key, value = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    factors = Factors(query, key, mask=torch.tensor([[True, True, False, True, True]]))
    assert factors.shape == (2, 4, 3, 5)
    expected = F.scaled_dot_product_attention(query, key, value, factors.mask, enable_gqa=True)
    assert torch.allclose(factors.maps() @ value.repeat_interleave(2, 1), expected, atol=1e-6)
    with pytest.raises(ac.AttentionError, match="(?s)of 3 and 5 tokens; a chain needs the same tokens.*cross-attention"):
        FactoredMap(factors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": "a"}, "scale is 'a'"),
        ({"softcap": float("inf")}, "softcap is inf"),
        ({"mask": torch.full((3, 3), torch.nan)}, "mask holds NaN"),
        ({"sinks": torch.full((2,), torch.nan)}, "sinks holds NaN"),
        ({"key": torch.rand(1, 0, 3, 4)}, "none empty"),
    ],
)
def test_numbers_that_make_no_map_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        Factors(**{"query": torch.rand(1, 2, 3, 4), "key": torch.rand(1, 2, 3, 4), **options})


@pytest.mark.parametrize("device", [torch.float16, torch.zeros(1), None], ids=["type", "tensor", "none"])
def test_factors_move_to_a_device_alone(device: Any) -> None:
    """A type would make numbers of a mask, which are then added to the logits."""
    factors = build(mask=torch.ones(N, N, dtype=torch.bool).tril())
    for movable in (factors, LayerAttention("layer.0", factors), LayerAttention("layer.0", factors.maps())):
        with pytest.raises(ac.AttentionError, match=r"it must be a device"):
            movable.to(device)
