"""Chains that several test files draw on."""

import torch
from hypothesis import strategies as st
from torch import Tensor


@st.composite
def random_logits(draw: st.DrawFn, least: int = 2) -> Tensor:
    n = draw(st.integers(least, 7))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return scale * torch.randn(n, n, generator=generator, dtype=torch.float64)


def vit_like(n: int = 40, batch: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    temperature = torch.linspace(0.3, 3, batch)[:, None, None]
    return (temperature * torch.randn(batch, n, n, generator=generator)).softmax(-1)
