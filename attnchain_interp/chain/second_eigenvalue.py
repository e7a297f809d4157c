"""The second eigenvalue of a chain: how slowly it mixes, and so how metastable its states are."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain
from attnchain_interp.chain.mixing import mixing
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.direct import second_of_spectrum
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Dense


def second_eigenvalue(P: Tensor | Factors | Chain) -> Tensor:
    """|λ₂| (…): the second largest modulus among the eigenvalues of each chain; 0 for a single state.

    The eigenvalues of a non-symmetric map may be complex, hence the modulus. Triangular maps (causal attention) are read
    off the diagonal, which is exact; iterating or a dense solver is not, since they are far from normal. Others go through
    `mixing`, to within 1e-4; where a map requires gradients, and below 49 tokens, through a dense eigensolver. On the same
    `Chain`, a later `stationary` finds its vector ready.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`.

    Raises:
        AttentionError: the map is not row-stochastic; a chain that ends (`absorb`); gradients of a factored chain; a
            factored chain of more than 4,096 tokens that did not converge.

    Source: Erel et al. 2025 (λ₂ weighting).

    >>> round(float(second_eigenvalue(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))), 4)
    0.6
    """
    chain = as_chain(P)
    if not (torch.is_grad_enabled() and chain.transitions.requires_grad):
        return mixing(chain).second_eigenvalue
    if not isinstance(chain.transitions, Dense):
        raise AttentionError(
            "|λ₂| of a factored chain has no gradient here. Use torch.no_grad(), or pass the map: factors.maps()."
        )
    return second_of_spectrum(chain.matrix)
