"""The reversible chain of a chain: the same flow of probability between two tokens, in both directions."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.operators import Factors
from attnchain_interp.operators.composed import total


@torch.no_grad()
def reversible(P: Tensor | Factors | Chain, damping: float = 0.99) -> Chain:
    """Returns the chain R_ij ∝ π_i P_ij + π_j P_ji, which goes along attention as often as against it.

    Its eigenvalues are real, so no number of metastable states parts a complex pair. A walk that starts at a token outside the
    states (the class token) starts anywhere.

    Args:
        P: (…, token, token). The map of factors is not built.
        damping: in [0, 1], of the chain whose stationary distribution is π.

    Raises:
        AttentionError: the errors of `stationary`.

    Source: Fill 1991 (additive reversibilization).

    >>> cycle = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> reversible(cycle).matrix
    tensor([[0.0000, 0.5000, 0.5000],
            [0.5000, 0.0000, 0.5000],
            [0.5000, 0.5000, 0.0000]])
    """
    chain = as_chain(P)
    flow = chain.transitions.scaled(rows=stationary(chain, damping) * len(chain))
    both = total([flow, flow.transposed()]).conditioned(chain.states)
    return Chain(both.scaled(columns=chain.states.to(chain.dtype)), chain.states, check=False)
