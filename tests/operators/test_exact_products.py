"""The precision of float32 products belongs to the process: it is set aside while any of our arithmetic runs, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.operators import full_precision
from attnchain_interp.operators.exact_products import ExactProducts, exact_products

BACKENDS: dict[str, Any] = {"cuda": torch.backends.cuda.matmul, "cpu": getattr(torch.backends.mkldnn, "matmul", None)}
by_backend = pytest.mark.skipif(not hasattr(BACKENDS["cuda"], "fp32_precision"), reason="torch before 2.9 has one setting")


def plain() -> None:
    torch.set_float32_matmul_precision("highest")
    holders: list[Any] = [torch.backends, *BACKENDS.values()]
    for holder in holders:
        if hasattr(holder, "fp32_precision"):
            holder.fp32_precision = "none"


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    plain()
    yield
    plain()


def away() -> float:
    a, b = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    return float((a @ b - a.double() @ b.double()).abs().max())


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_products_are_exact_inside_and_as_before_outside(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    before = away()
    with full_precision(), pytest.raises(KeyError), exact_products:
        raise KeyError
    assert (torch.get_float32_matmul_precision(), away()) == (precision, before)
    with full_precision():
        with full_precision():
            pass
        assert away() < 1e-4
        assert not torch.backends.cuda.matmul.allow_tf32, "torch's older switch can be read"
    assert (torch.get_float32_matmul_precision(), away()) == (precision, before)


def test_the_last_of_several_threads_puts_the_setting_back() -> None:
    torch.set_float32_matmul_precision("medium")
    before, products = away(), ExactProducts()
    products.__enter__()  # one thread
    products.__enter__()  # another, which is still inside when the first one leaves
    products.__exit__()
    assert away() < 1e-4
    products.__exit__()
    assert (torch.get_float32_matmul_precision(), away()) == ("medium", before)


@by_backend
@pytest.mark.parametrize("of", ["cuda", "cpu", "all"])
def test_settings_by_backend_are_put_back_too(of: str) -> None:
    holder: Any = torch.backends if of == "all" else BACKENDS[of]
    holder.fp32_precision = "tf32"
    before = [backend.fp32_precision for backend in BACKENDS.values()]
    with exact_products:
        assert all(backend.fp32_precision in ("ieee", "none") for backend in BACKENDS.values())
    assert [backend.fp32_precision for backend in BACKENDS.values()] == before
    holder.fp32_precision = "none"
    assert [backend.fp32_precision for backend in BACKENDS.values()] == ["none", "none"]  # no backend got one of its own


def test_the_rounding_of_products_outside() -> None:
    products = ExactProducts()
    for precision, dtype in {"highest": torch.float32, "high": torch.float16, "medium": torch.bfloat16}.items():
        torch.set_float32_matmul_precision(precision)
        assert products.rounded(torch.ones(1)) == dtype
        with products:
            assert products.rounded(torch.ones(1)) == dtype
        assert products.rounded(torch.ones(1, dtype=torch.float64)) == torch.float64
        assert products.rounded(torch.ones(1, device="meta")) == torch.float32


def test_chains_of_medium_precision() -> None:
    P = torch.randn(2, 2, 60, 60, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
    expected = ac.stationary(P), ac.bounce(P, 1, 3)
    torch.set_float32_matmul_precision("medium")
    assert torch.equal(ac.stationary(P), expected[0])
    assert torch.equal(ac.bounce(P, 1, 3), expected[1])
