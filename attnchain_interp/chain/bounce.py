"""Multi-bounce attention: a walk of a few steps."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, distribution, one_hot
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.factors import Factors


def bounce(P: Tensor | Factors | Chain, start: Tensor | int, steps: int = 2, path: bool = False) -> Tensor:
    """Where a walk from `start` is after `steps` steps: v Pⁿ (…, token), the multi-bounce attention.

    From one token, one step is its row of P; from the uniform distribution, one step is the column sum divided by the
    number of states; many steps tend to `stationary`.

    Args:
        P: (…, token, token).
        start: a token by number, or distributions (…, token).
        steps: how many, 0 or more.
        path: return every distribution on the way, (…, steps + 1, token), the start first.

    Raises:
        AttentionError: a start out of range or not a distribution, or a negative number of steps.

    Source: Erel et al. 2025, "multi-bounce attention".

    >>> bounce(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), 1, steps=2)
    tensor([0.5000, 0.5000])
    """
    chain = as_chain(P)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise AttentionError(f"steps is {steps!r}; it counts steps of the chain: 0, 1, 2, …")
    v = distribution(chain, one_hot(chain, start) if isinstance(start, int) else start, "start")
    visited = [v]
    for _ in range(steps):
        v = chain.step(v)
        visited.append(v)
    return torch.stack(visited, -2) if path else v
