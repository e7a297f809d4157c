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


def attention(n: int, batch: int = 4, size: float = 2.0, seed: int = 0, causal: bool = False) -> Tensor:
    """Maps from flat to peaky, (batch, n, n) float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.linspace(0.3, size, batch)[:, None, None] * torch.randn(batch, n, n, generator=generator)
    return (logits.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf) if causal else logits).softmax(-1)


def exact_second(P: Tensor) -> Tensor:
    return torch.linalg.eigvals(P.double()).abs().topk(2).values[..., 1]
