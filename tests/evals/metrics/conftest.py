"""A grid of attributions that several tests share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def grid() -> Tensor:
    return torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(3))
