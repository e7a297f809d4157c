"""The second eigenvalue of a chain: how slowly it mixes, and so how metastable its states are."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain import Chain, as_chain


def second_eigenvalue(P: Tensor | Chain) -> Tensor:
    """|λ₂| (…): the second largest modulus among the eigenvalues of each chain; 0 for a single state.

    The eigenvalues of a non-symmetric map may be complex, hence the modulus. Triangular maps (causal attention) are read
    off the diagonal, which is exact; iterating or a dense solver is not, since they are far from normal. Computed in
    the chain's type, float32 or float64. CUDA maps are taken to the CPU: there is no batched eigensolver there, and one
    map at a time is slower.

    Args:
        P: (…, token, token) map or `Chain`.

    Raises:
        AttentionError: the map is not row-stochastic.

    Source: Erel et al. 2025 (λ₂ weighting).

    >>> round(float(second_eigenvalue(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))), 4)
    0.6
    """
    matrix = as_chain(P).matrix
    n = matrix.shape[-1]
    if n == 1:
        return matrix.new_zeros(matrix.shape[:-2])
    if not bool(matrix.triu(1).any()) or not bool(matrix.tril(-1).any()):
        return matrix.diagonal(dim1=-2, dim2=-1).topk(2).values[..., 1]
    eigenvalues = torch.linalg.eigvals(matrix.cpu() if matrix.is_cuda else matrix)
    return eigenvalues.abs().topk(2).values[..., 1].to(matrix.device)
