"""Float32 or wider: the precision in which every map is read and every chain is computed."""

from __future__ import annotations

import torch
from torch import Tensor


def float32_or_wider(tensor: Tensor) -> Tensor:
    """Returns the tensor in float32. Returns a float64 tensor as it is."""
    return tensor.to(wide_dtype(tensor.dtype))


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns float32 for 16-bit and 32-bit floats and float64 for float64.

    >>> wide_dtype(torch.bfloat16), wide_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)
