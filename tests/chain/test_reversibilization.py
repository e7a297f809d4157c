"""The reversible chain beside detailed balance and beside its factored form."""

import torch

import attnchain_interp as ac
from attnchain_interp.chain import leading_eigenvalues, reversible

from ..chains import attention, blocks


def test_detailed_balance_and_real_eigenvalues() -> None:
    P = blocks(20, 3)
    assert torch.linalg.eigvals(P).imag.abs().max() > 1e-3
    R = reversible(P)
    pi = ac.stationary(R, damping=1)
    flow = pi[:, None] * R.matrix
    assert torch.allclose(flow, flow.T, atol=1e-12)
    assert torch.allclose(R.matrix.sum(-1), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(pi, ac.stationary(P, damping=1), atol=1e-3), "damped π is near"
    assert leading_eigenvalues(R, 20).imag.abs().max() < 1e-9


def test_a_reversible_chain_stays_as_it_is() -> None:
    P = reversible(blocks(12, 2), damping=1)
    assert torch.allclose(reversible(P, damping=1).matrix, P.matrix, atol=1e-9)


def test_tokens_outside_and_factors() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, 9, 4, generator=generator)
    factors = ac.Factors(query, key)
    states = torch.arange(9) > 0
    dense = reversible(ac.restrict(factors.maps(), states))
    held = reversible(ac.restrict(factors, states))
    assert torch.allclose(held.matrix[..., 1:, :], dense.matrix[..., 1:, :], atol=1e-6)
    assert not dense.matrix[..., 0].any()
    assert torch.allclose(dense.matrix.sum(-1), torch.ones(1, 2, 9), atol=1e-5)
    assert reversible(attention(8)).states.shape == (4, 8)
