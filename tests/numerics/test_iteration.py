"""A result of the iteration is believed only when both tests agree."""

import pytest
import torch

from attnchain_interp.numerics import iteration
from attnchain_interp.numerics.iteration import Maps, Products, invert, iterate
from attnchain_interp.numerics.krylov import centred
from attnchain_interp.operators.operator import Dense


def test_a_radius_that_does_not_change_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun at two opposite tokens of a cycle, H stays nilpotent: its radius is 0 at every size, its Ritz vector none."""
    n = 400
    P = torch.eye(n).roll(1, 1)[None]
    states, jump = torch.ones(1, n, dtype=torch.bool), torch.full((1, n), 1 / n)
    starts = [torch.eye(n)[:1, None] - torch.eye(n)[200:201, None]]
    monkeypatch.setattr(iteration, "centred", lambda v, uniform: starts.pop() if starts else centred(v, uniform))
    found = iterate(Products(Dense(P)), states, jump, 0.99, vector=False)
    assert not starts
    assert not found.has_radius.any()


def test_an_inverse_near_one_does_not_outvote_what_lies_elsewhere() -> None:
    """Eigenvalues 0.5 near one and −0.95 far from it: the second is the larger, and the inverse sees the first."""
    n = 40
    values = torch.tensor([1.0, 0.5, -0.95]).double()
    basis = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.randn(n, 2, generator=torch.Generator().manual_seed(0))], 1))
    P = ((basis.Q.double() * values) @ basis.Q.double().T)[None]  # rows sum to one, signs do not matter here
    states, jump = torch.ones(1, n, dtype=torch.bool), torch.full((1, n), 1 / n).double()
    found = iterate(Maps(P), states, jump, 0.99)
    assert abs(float(found.radius) - 0.95) < 1e-6
    found.has_radius[:] = False
    assert not invert(P, states, jump, 0.99, found).has_radius.any()
