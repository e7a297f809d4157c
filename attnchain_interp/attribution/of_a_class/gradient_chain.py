"""The chain that follows attention only where it speaks for the target."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.tokens import TokenSelection


def evidence(found: AttentionGradients, rectify: Literal["entries", "layers"]) -> Tensor:
    """A ⊙ ∇A (batch, query, key), heads averaged and layers summed, with the ReLU before or after either.

    `rectify` is "entries" (Σ_l mean_h ReLU(A ⊙ ∇A)) or "layers" (ReLU(Σ_l mean_h A ⊙ ∇A)).
    """
    total = found[0][0].new_zeros(())
    for maps, gradients in found:
        products = maps * gradients
        if rectify == "entries":
            products = products.relu()
        total = total + products.mean(1)
    return total.relu()


def gradient_chain(found: AttentionGradients, tokens: TokenSelection) -> Chain:
    """The chain over `tokens` whose transitions are W = Σ_l mean_h A ⊙ ReLU(∇A), each row divided by its sum.

    Heads and layers whose gradient is greater count more, and the scale of the score cancels. A row that holds no evidence
    keeps the plain attention of its token (the mean over heads and layers): the walk goes on as the model does.

    Raises:
        AttentionError: `tokens` selects nothing in an example, or a state that attends to no state.
    """
    attention = found.store.chain(tokens=tokens)
    states = attention.states
    weights = evidence(found, "entries") * states[:, None]
    sums = weights.sum(-1, keepdim=True)
    there = sums > torch.finfo(sums.dtype).tiny
    transitions = torch.where(there, weights / torch.where(there, sums, 1), attention.matrix)
    return Chain(transitions, states, check=False)
