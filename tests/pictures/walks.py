"""A small store over an image grid, and what is in a panel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from attnchain_interp import AttentionStore, Role, TokenLayout

GRID = (2, 3)


def small_store(prefix: tuple[Role, ...] = (Role.CLASS,), layers: int = 2) -> AttentionStore:
    """Two examples, two heads, a grid of 2 × 3 patches."""
    n, generator = len(prefix) + 6, torch.Generator().manual_seed(0)
    maps = [(2 * torch.randn(2, 2, n, n, generator=generator)).softmax(-1) for _ in range(layers)]
    return AttentionStore.from_maps(maps, TokenLayout.image(2, GRID, prefix=prefix))


def shown(axis: Axes) -> NDArray[Any]:
    """The map in a panel, checked to have its own scale: from zero, or from its low quantile."""
    (image,) = axis.images
    array = np.asarray(image.get_array())
    least, greatest = image.get_clim()
    assert greatest == array.max()
    assert least == pytest.approx(0) or least == pytest.approx(np.quantile(array, 0.005))
    return array


def power(matrix: torch.Tensor, n: int) -> torch.Tensor:
    return torch.linalg.matrix_power(matrix.double(), n)
