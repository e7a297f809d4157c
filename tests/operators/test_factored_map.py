"""Attention held as queries and keys: its products, on every route."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import attnchain_interp as ac
from attnchain_interp.operators import Factors, factored_map
from attnchain_interp.operators.factored_map import FactoredMap

from .factored import CASES, N, build, dense, every_case


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
    """The fused step would. The map notices when it is made, and takes tiles."""
    factors = build(size=50.0, causal=causal)
    assert float(factors.logits().nan_to_num(0, 0, 0).abs().max()) > 5e3
    own = FactoredMap(factors)
    assert own._route is None
    assert FactoredMap(build(causal=causal))._route is not None, "logits of ten"
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
def test_no_map_is_ever_built(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1024
    monkeypatch.setattr(
        factored_map, "_TILE", factored_map._TILE // 16
    )  # as small beside this map as usual beside 4,096 tokens
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


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    for options in CASES.values():
        factors = build(**options)
        v = torch.rand(2, 4, 3, N)
        assert torch.allclose(FactoredMap(factors.to("cuda")).left(v.cuda()).cpu(), v @ factors.maps(), atol=1e-5)


def test_logits_that_overflow_are_refused() -> None:
    huge = torch.full((1, 1, 3, 2), 1e30)
    with pytest.raises(ac.AttentionError, match="overflow"):
        FactoredMap(Factors(huge, huge))


@pytest.mark.parametrize("fill", [-1e4, -1e9, torch.finfo(torch.float32).min, -torch.inf])
def test_an_added_causal_mask_is_seen(fill: float) -> None:
    q, k = torch.randn(2, 1, 1, 600, 16, generator=torch.Generator().manual_seed(0))
    factors = Factors(q, k, mask=torch.full((600, 600), fill).triu(1))
    every = torch.ones(1, 1, 600, dtype=torch.bool)
    assert bool(FactoredMap(factors).triangular(every, upper=False).all())
    assert float(factors.maps().triu(1).abs().max()) == 0
