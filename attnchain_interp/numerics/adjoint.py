"""The gradient of a stationary vector without recording how it was found."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.numerics.krylov import SIZES, Basis
from attnchain_interp.operators.dense import Dense

_ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-12}
_RESTARTS = 20


def with_implicit_gradient(chain: Chain, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    """The stationary vector `pi` (…, token) of the damped chain P', with the gradient that π P' = π defines.

    One step from π is recorded. The gradient g that reaches its result stands for all later steps too, so it is first
    replaced by z with (I − P' + 1πᵀ) z = g: implicit differentiation of a fixed point, in memory of one step.

    Raises:
        AttentionError: on the way back, where z is not found.
    """
    stepped = damping * chain.step(pi) + (1 - damping) * jump
    adjoint: Any = _Adjoint.apply
    return adjoint(stepped, chain, pi, damping, jump.detach())


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stepped: Tensor, chain: Chain, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
        ctx.chain, ctx.damping = chain, damping
        ctx.save_for_backward(pi, jump)
        return pi.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            raise AttentionError("a stationary distribution is differentiated once; create_graph=True asks for more.")
        pi, jump = ctx.saved_tensors
        chain: Chain = ctx.chain
        g = torch.where(chain.states, gradients[0], 0)
        solver = _by_lu if isinstance(chain.transitions, Dense) else _by_gmres
        return solver(chain, g, pi, ctx.damping, jump), None, None, None, None


def _by_lu(chain: Chain, g: Tensor, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    matrix, ones = chain.matrix.detach().double(), chain.states.double()
    eye = torch.eye(len(chain), dtype=torch.float64, device=g.device)
    outer = ones[..., :, None] * (pi - (1 - damping) * jump).double()[..., None, :]
    system = eye - damping * matrix * ones[..., :, None] + outer
    return torch.linalg.solve(system, g.double()[..., None])[..., 0].to(g.dtype)


def _by_gmres(chain: Chain, g: Tensor, pi: Tensor, damping: float, jump: Tensor) -> Tensor:
    """On the vectors with πᵀz = 0, which P' leaves to themselves and where its eigenvalues are those of the chain but 1."""
    n, batch = len(chain), chain.states.shape[:-1]
    ones, pi, jump = (tensor.reshape(-1, 1, n).to(g.dtype) for tensor in (chain.states, pi, jump))

    def against(z: Tensor) -> Tensor:
        return z - (z * pi).sum(-1, keepdim=True) * ones

    def product(z: Tensor) -> Tensor:
        followed = chain.transitions.right(z.reshape(*batch, 1, n)).reshape(z.shape) * ones
        return against(damping * followed + (1 - damping) * (z * jump).sum(-1, keepdim=True) * ones)

    whole = g.reshape(-1, 1, n)
    constant = (whole * pi).sum(-1, keepdim=True) * ones
    residual, z = against(whole), torch.zeros_like(whole)
    target = _ACCURACY[g.dtype] * residual.norm(dim=-1).clamp_min(torch.finfo(g.dtype).tiny)
    sizes = [size for size in SIZES if size < n] or [n]
    for _ in range(_RESTARTS):
        basis, beta = Basis.started_at(residual), residual.norm(dim=-1)[:, 0]
        correction = torch.zeros_like(z)
        for size in sizes:
            basis.grow(product, size)
            correction, left = basis.minimal_residual(1.0, beta)
            if bool((left <= target[:, 0]).all()):
                break
        z = z + correction
        residual = against(whole) - (z - product(z))
        if bool((residual.norm(dim=-1) <= 10 * target).all()):
            return (z + constant).reshape(g.shape)
    raise AttentionError("the gradient of the stationary distribution did not converge; lower the damping.")
