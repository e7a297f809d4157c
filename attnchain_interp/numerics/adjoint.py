"""The gradient of a stationary vector, without a record of the solver's steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.direct import solve_dominant
from attnchain_interp.numerics.krylov import gmres
from attnchain_interp.operators import Dense, Operator, full_precision

_ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-12}


def with_implicit_gradient(transitions: Operator, states: Tensor, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    """Returns the stationary vector `pi` (…, token) of the damped chain P', with the gradient that π P' = π defines.

    One step from π is recorded. The gradient g of its result stands for all later steps too. It is therefore replaced by z
    with (I − P' + 1πᵀ) z = g: implicit differentiation of a fixed point, in the memory of one step.

    Args:
        transitions: (…, token, token), the chain without damping.
        states: (…, token) bool.
        pi: its stationary vector at this damping.
        damping: in [0, 1].
        jump: (…, token), where the damped walk lands when it jumps.
    """
    stepped = damping * transitions.left(pi[..., None, :])[..., 0, :] + (1 - damping) * jump
    adjoint: Any = _Adjoint.apply
    return adjoint(stepped, transitions, states, pi, damping, jump.detach())


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, stepped: Tensor, transitions: Operator, states: Tensor, pi: Tensor, damping: float, jump: Tensor
    ) -> Tensor:
        ctx.transitions, ctx.damping = transitions, damping
        ctx.save_for_backward(states, pi, jump)
        return pi.clone()

    @staticmethod
    @full_precision()
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            raise AttentionError("a stationary distribution is differentiated once.", "Leave create_graph=True out.")
        states, pi, jump = ctx.saved_tensors
        g = torch.where(states, gradients[0], 0)
        solver = _by_elimination if isinstance(ctx.transitions, Dense) else _by_gmres
        return solver(ctx.transitions, states, g, pi, ctx.damping, jump), None, None, None, None, None


def _by_elimination(transitions: Operator, states: Tensor, g: Tensor, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    """Solves (I − P') y = g − πᵀg with y = 0 at the likeliest token, whose row and column go; z is y plus a constant."""
    pi, jump, right = pi.double(), jump.double(), g.double()
    free = states & (torch.arange(g.shape[-1], device=g.device) != pi.argmax(-1, keepdim=True))
    stepped = damping * transitions.dense().detach().double() + (1 - damping) * jump[..., None, :]
    system = torch.eye(g.shape[-1], dtype=torch.float64, device=g.device) - stepped * (free[..., :, None] & free[..., None, :])
    mean = (right * pi).sum(-1, keepdim=True)
    y = solve_dominant(system, ((right - mean) * free)[..., None])[..., 0]
    return ((y + mean - (y * pi).sum(-1, keepdim=True)) * states).to(g.dtype)


def _by_gmres(transitions: Operator, states: Tensor, g: Tensor, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    """Solves on the vectors with πᵀz = 0: P' maps them to themselves, with the eigenvalues λ₂ … λₙ."""
    n, batch = g.shape[-1], g.shape[:-1]
    ones, pi, jump = (tensor.reshape(-1, 1, n).to(g.dtype) for tensor in (states, pi, jump))

    def against(z: Tensor) -> Tensor:
        return z - (z * pi).sum(-1, keepdim=True) * ones

    def product(z: Tensor) -> Tensor:
        followed = transitions.right(z.reshape(*batch, 1, n)).reshape(z.shape) * ones
        return against(damping * followed + (1 - damping) * (z * jump).sum(-1, keepdim=True) * ones)

    whole = g.reshape(-1, 1, n)
    right = against(whole)
    target = _ACCURACY[g.dtype] * right.norm(dim=-1)[:, 0].clamp_min(torch.finfo(g.dtype).tiny)
    z, found = gmres(product, right, target, lambda _, residual: bool((residual.norm(dim=-1)[:, 0] <= 10 * target).all()))
    if not found:
        raise AttentionError("the gradient of the stationary distribution did not converge.", "Lower the damping.")
    return (z + (whole * pi).sum(-1, keepdim=True) * ones).reshape(g.shape)
