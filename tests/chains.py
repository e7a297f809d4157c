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


def lumped(Q: Tensor, sizes: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A chain that moves among blocks by Q whatever the token, and each token's block as a one-hot."""
    block = torch.arange(len(Q)).repeat_interleave(torch.tensor(sizes))
    inside = torch.rand(len(block), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    one_hot = torch.eye(len(Q), dtype=torch.float64)[block]
    return Q.double()[block][:, block] * inside / (inside @ one_hot)[block], one_hot


def blocks(n: int, k: int, leak: float = 0.02, seed: int = 0) -> Tensor:
    """A random chain, not reversible, of k blocks of about equal size that it leaves at about the rate `leak`."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.arange(n) * k // n
    weights = (0.7 * torch.randn(n, n, generator=generator, dtype=torch.float64)).exp()
    weights = weights * torch.where(block[:, None] == block, 1, leak)
    return weights / weights.sum(-1, keepdim=True)


def ordered(chi: Tensor, eta: Tensor) -> Tensor:
    """χ with the states in order of falling weight."""
    return chi[:, (eta @ chi).argsort(descending=True)]
