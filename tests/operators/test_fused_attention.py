"""A fused route is used only after it has been right."""

from typing import Any

import pytest
import torch
from torch import Tensor

from attnchain_interp.operators import Factors, fused_attention
from attnchain_interp.operators.factored_map import FactoredMap

from .factored import N, build, dense


def check_left(factors: Factors) -> None:
    v = torch.rand(2, 4, 3, N, generator=torch.Generator().manual_seed(2))
    own = FactoredMap(factors)
    assert torch.allclose(own.left(v).double(), v.double() @ dense(factors), atol=1e-5)
    assert torch.allclose(own.right(v).double(), v.double() @ dense(factors).mT, atol=1e-5)


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
        check_left(build(causal=True))
        monkeypatch.setitem(fused_attention._ROUTES, "cpu", (absent, wrong))
        fused_attention.fused_route.cache_clear()
        assert fused_attention.fused_route("cpu", torch.float32) is None
        check_left(build(causal=True))
    finally:
        fused_attention.fused_route.cache_clear()
