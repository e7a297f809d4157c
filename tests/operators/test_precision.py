"""Full precision: autocast is off inside, on inside out again, and another device's is left alone."""

from __future__ import annotations

import pytest
import torch

from attnchain_interp.operators import full_precision


def product_dtype() -> torch.dtype:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_autocast_is_off_inside_and_on_afterwards() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert product_dtype() == torch.bfloat16
        with full_precision():
            assert product_dtype() == torch.float32
            with torch.autocast("cpu", torch.float16):  # the model of a reducer, say
                assert product_dtype() == torch.float16
            assert product_dtype() == torch.float32
        assert product_dtype() == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_it_decorates_and_is_left_when_a_function_raises() -> None:
    @full_precision()
    def failing() -> None:
        assert product_dtype() == torch.float32
        raise ValueError

    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^$"):
                failing()
        assert product_dtype() == torch.bfloat16


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    one = torch.ones(2, 2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16), full_precision():
        assert (one @ one).dtype == torch.float32
