"""Attention held as queries and keys: its map, its products, its routes, and what is refused."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import attnchain_interp as ac
from attnchain_interp.operators import fused_attention
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.factors import Factors

N = 70
TRIL = torch.ones(N, N, dtype=torch.bool).tril()
GENERATOR = torch.Generator().manual_seed(0)
PADDED = torch.rand(2, 1, 1, N, generator=GENERATOR) > 0.3
BIAS = torch.randn(1, 4, N, N, generator=GENERATOR)
SINKS = torch.randn(4, generator=GENERATOR)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": 0.7},
    "causal": {"causal": True},
    "grouped": {"key_heads": 2},
    "one key head, causal": {"key_heads": 1, "causal": True},
    "soft-capped": {"softcap": 5.0},
    "sinks": {"sinks": SINKS},
    "sinks, causal": {"sinks": SINKS, "causal": True},
    "keys masked": {"mask": PADDED},
    "keys masked, causal": {"mask": PADDED | (torch.arange(N) == 0), "causal": True},
    "keys biased": {"mask": torch.randn(N, generator=GENERATOR)},
    "window": {"mask": TRIL & ~TRIL.tril(-9)},
    "bias": {"mask": BIAS},
    "everything": {"mask": BIAS, "softcap": 3.0, "sinks": SINKS, "causal": True, "key_heads": 2},
}
every_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def build(n: int = N, key_heads: int = 4, size: float = 1.5, dtype: torch.dtype = torch.float32, **options: Any) -> Factors:
    generator = torch.Generator().manual_seed(1)
    query = size * torch.randn(2, 4, n, 16, generator=generator)
    key = size * torch.randn(2, key_heads, n, 16, generator=generator)
    return Factors(query.to(dtype), key.to(dtype), **options)


def dense(factors: Factors) -> Tensor:
    """The map in float64, from the definition."""
    query, key = factors.query.double(), factors.key.double()
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if factors.scale is None else factors.scale)
    if factors.softcap:
        logits = factors.softcap * (logits / factors.softcap).tanh()
    if factors.mask is not None and factors.mask.dtype == torch.bool:
        logits = logits.masked_fill(~factors.mask, -torch.inf)
    elif factors.mask is not None:
        logits = logits + factors.mask
    if factors.causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -torch.inf)
    if factors.sinks is None:
        return logits.softmax(-1)
    sink = factors.sinks.double()[:, None, None].expand(*logits.shape[:3], 1)
    return torch.cat([logits, sink], -1).softmax(-1)[..., :-1]


@every_case
def test_the_map_and_its_products(options: dict[str, Any]) -> None:
    factors = build(**options)
    expected = dense(factors)
    assert torch.allclose(factors.maps().double(), expected, atol=1e-6)
    own = FactoredMap(factors)
    v = torch.rand(2, 4, 3, N, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(own.left(v).double(), v.double() @ expected, atol=1e-5)
    assert torch.allclose(own.right(v).double(), v.double() @ expected.mT, atol=1e-5)
    assert torch.allclose(own.rows(5, 9).double(), expected[..., 5:9, :], atol=1e-6)
    assert torch.allclose(own.columns(5, 9).double(), expected[..., 5:9].mT, atol=1e-5)
    assert torch.allclose(own.diagonal().double(), expected.diagonal(dim1=-2, dim2=-1), atol=1e-6)


@every_case
def test_a_wide_block_of_starts(options: dict[str, Any]) -> None:
    """More vectors at once than a head has features."""
    factors = build(**options)
    v = torch.rand(2, 4, 40, N, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(FactoredMap(factors).left(v).double(), v.double() @ dense(factors), atol=1e-5)


@every_case
def test_some_heads_and_some_tokens(options: dict[str, Any]) -> None:
    factors = build(**options)
    assert torch.allclose(factors.heads(slice(1, 3)).maps(), factors.maps()[:, 1:3], atol=1e-6)
    tokens = torch.arange(3, N, 2)
    kept = dense(factors)[:, :, tokens][..., tokens]
    if factors.sinks is None:
        few = kept.sum(-1, keepdim=True)
        assert torch.allclose(factors.among(tokens).maps().double(), torch.where(few > 0, kept / few, 0), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_16_bit_factors_are_computed_in_float32(dtype: torch.dtype) -> None:
    factors = build(dtype=dtype, causal=True)
    chain = ac.chain.as_chain(factors)
    assert chain.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(ac.bounce(chain, 3, 2).double(), ac.bounce(dense(factors), 3, 2), atol=1e-6)


def test_a_row_with_every_key_masked() -> None:
    mask = torch.ones(1, 1, N, N, dtype=torch.bool)
    mask[..., 4, :] = False
    factors = build(mask=mask)
    assert not factors.maps()[..., 4, :].any()
    own = FactoredMap(factors)
    assert torch.allclose(own.left(torch.eye(N).expand(2, 4, -1, -1)), factors.maps(), atol=1e-6)
    with pytest.raises(ac.AttentionError, match="token 4 .* has every key masked"):
        ac.chain.as_chain(factors)
    others = (torch.arange(N) != 4).expand(2, 4, -1)
    padded = ac.Chain(own.conditioned(others).scaled(columns=others), others)
    assert float(ac.bounce(padded, 4, 1).max()) == pytest.approx(1 / (N - 1)), "padding starts anywhere"


@pytest.mark.parametrize("causal", [False, True])
def test_logits_of_ten_thousand_lose_no_mass(causal: bool) -> None:
    """The fused step would; it notices, and tiles take over."""
    factors = build(size=50.0, causal=causal)
    assert float(factors.logits().nan_to_num(0, 0, 0).abs().max()) > 5e3
    own = FactoredMap(factors)
    assert own._route is not None
    v = torch.full((2, 4, 1, N), 1 / N)
    for _ in range(10):
        v = own.left(v)
    assert torch.allclose(v.sum(-1), torch.ones(2, 4, 1), atol=1e-5)
    assert torch.allclose(own.left(v), v @ factors.maps(), atol=1e-5)


@st.composite
def random_factors(draw: st.DrawFn) -> Factors:
    n, heads = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    size = draw(st.sampled_from([0.1, 1.0, 5.0]))
    query = size * torch.randn(1, 4, n, 3, generator=generator, dtype=torch.float64)
    key = size * torch.randn(1, heads, n, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(n, n, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    softcap = draw(st.sampled_from([None, 2.0]))
    sinks = torch.randn(4, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    return Factors(query, key, mask=bias, causal=draw(st.booleans()), softcap=softcap, sinks=sinks)


@given(random_factors(), st.data())
def test_factored_is_dense_and_restriction_is_dropping_logits(factors: Factors, data: st.DataObject) -> None:
    n = factors.shape[-1]
    own = FactoredMap(factors)
    assert torch.allclose(own.dense(), dense(factors), atol=1e-12)
    v = torch.rand(1, 4, 1, n, dtype=torch.float64)
    assert torch.allclose(own.left(v), v @ dense(factors), atol=1e-12)
    chain = ac.chain.as_chain(factors)
    assert torch.allclose(chain.matrix.sum(-1), torch.ones(1, 4, n, dtype=torch.float64))
    first = data.draw(st.integers(0, n - 1)) if not factors.causal else 0  # in causal attention every token sees the first
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) | (torch.arange(n) == first)
    restricted = ac.restrict(chain, keep).matrix[..., keep, :][..., keep]
    assert torch.allclose(restricted, factors.logits()[..., keep, :][..., keep].softmax(-1), atol=1e-9)
    pi = ac.stationary(chain, 0.9)
    assert torch.allclose(pi, ac.stationary(chain.matrix, 0.9), atol=1e-9)
    assert torch.allclose(pi.sum(-1), torch.ones(1, 4, dtype=torch.float64))


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() > 0:
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("causal", [False, True])
def test_no_map_is_ever_built(causal: bool) -> None:
    n = 4096
    query, key = torch.randn(2, 1, 2, n, 8, generator=torch.Generator().manual_seed(0))
    with Largest() as seen, torch.no_grad():
        chain = ac.chain.as_chain(Factors(query, key, causal=causal))
        ac.stationary(chain)
        ac.second_eigenvalue(chain)
        ac.stationary(ac.reverse(ac.damp(chain, 0.9)))
        ac.stationary(ac.restrict(chain, torch.arange(n) > 9))
    assert n < seen.elements < n * n / 3
    with Largest() as seen:
        assert chain.matrix.shape == (1, 2, n, n)
    assert seen.elements >= n * n, "the counter sees a map"


def test_a_route_must_prove_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        out, total = fused_attention.cpu_flash(query, key, value, causal)
        return out, total * 1.01

    def absent(*_: Any) -> tuple[Tensor, Tensor]:
        raise AttributeError("'_OpNamespace' 'aten' object has no attribute")

    for route in (fused_attention.cpu_flash, fused_attention.dummy_key):
        for dtype in (torch.float32, torch.float64):
            assert fused_attention.proves_itself(route, "cpu", dtype)
    assert not fused_attention.proves_itself(wrong, "cpu", torch.float32)
    assert not fused_attention.proves_itself(absent, "cpu", torch.float32)
    monkeypatch.setitem(fused_attention._ROUTES, "cpu", (absent, wrong, fused_attention.dummy_key))
    fused_attention.fused_route.cache_clear()
    try:
        assert fused_attention.fused_route("cpu", torch.float32) is fused_attention.dummy_key
        test_the_map_and_its_products({"causal": True})
        monkeypatch.setitem(fused_attention._ROUTES, "cpu", (absent, wrong))
        fused_attention.fused_route.cache_clear()
        assert fused_attention.fused_route("cpu", torch.float32) is None
        test_the_map_and_its_products({"causal": True})
    finally:
        fused_attention.fused_route.cache_clear()


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    for options in CASES.values():
        factors = build(**options)
        v = torch.rand(2, 4, 3, N)
        assert torch.allclose(FactoredMap(factors.to("cuda")).left(v.cuda()).cpu(), v @ factors.maps(), atol=1e-5)


def test_the_forward_attention_itself() -> None:
    factors = build(causal=True)
    value = torch.randn(2, 4, N, 16)
    expected = F.scaled_dot_product_attention(factors.query, factors.key, value, is_causal=True)
    assert torch.allclose(factors.maps() @ value, expected, atol=1e-5)


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
    with pytest.raises(ac.AttentionError, match="of 3 and 5 tokens. A chain needs them for the same tokens: cross-attention"):
        FactoredMap(factors)


def test_logits_that_overflow_are_refused() -> None:
    huge = torch.full((1, 1, 3, 2), 1e30)
    with pytest.raises(ac.AttentionError, match="overflow"):
        FactoredMap(Factors(huge, huge))
