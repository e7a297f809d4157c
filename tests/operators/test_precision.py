import pytest
import torch

from attnchain_interp.operators import float32_or_wider, wide_dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_tensors_become_float32(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.5, 0.25], dtype=dtype)
    assert float32_or_wider(tensor).dtype == wide_dtype(dtype) == torch.float32
    assert float32_or_wider(tensor).tolist() == [0.5, 0.25]


def test_float64_stays() -> None:
    tensor = torch.tensor([0.1], dtype=torch.float64)
    assert float32_or_wider(tensor) is tensor
