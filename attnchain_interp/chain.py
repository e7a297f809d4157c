"""Markov chains over tokens: restriction, damping, reversal and bounces.

A map A (…, query, key) whose rows sum to one is a transition matrix: from token i the walk moves to token j with
probability A_ij. Distributions are row vectors, one step is v ↦ vA. Source of the reading: Erel et al., *Attention (as
Discrete-Time Markov) Chains*, NeurIPS 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError

ROW_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # 16-bit maps are rounded after the softmax: 2e-2


@torch.no_grad()
def check_rows(maps: Tensor, name: str, rows: Tensor | None = None) -> None:
    """Refuses what is not a row-stochastic map.

    Args:
        maps: (…, query, key).
        name: what the message calls it.
        rows: bool, broadcastable to (…, query); rows that are false are not looked at (padding).

    Raises:
        AttentionError: not square, not floating point, NaN or infinite, negative, or rows that do not sum to one.
    """
    if maps.ndim < 2 or maps.shape[-1] != maps.shape[-2] or maps.shape[-1] == 0:
        raise AttentionError(
            f"{name} has shape {tuple(maps.shape)}; a chain needs square maps (…, query, key). Cross-attention and pooled"
            " attention are not chains."
        )
    if not maps.is_floating_point():
        raise AttentionError(f"{name} is {maps.dtype}; attention probabilities are floating point.")
    low, high = maps.aminmax(dim=-1)
    sums = maps.sum(-1, dtype=torch.promote_types(maps.dtype, torch.float32))
    if rows is not None:
        rows = rows.expand_as(sums)
        low, high, sums = low[rows], high[rows], sums[rows]
    if not bool(sums.isfinite().all()):
        raise AttentionError(
            f"{name} holds {int((~sums.isfinite()).sum())} rows with NaN or infinity. A row with every key masked"
            " becomes NaN in a softmax: mark such queries as Role.PAD in the TokenLayout, or find what overflowed."
        )
    if low.numel() and float(low.min()) < 0:
        raise AttentionError(
            f"{name} has negative entries (least {float(low.min()):.3g}). Pass probabilities after the softmax; signed"
            " attention (talking heads, differential attention) is not a chain."
        )
    off = (sums - 1).abs().max().item() if sums.numel() else 0.0
    if off > ROW_TOLERANCE.get(maps.dtype, 2e-2):
        raise AttentionError(
            f"{name} is not row-stochastic: a row sums to 1 ± {off:.3g}. Pass probabilities after the softmax and before"
            " dropout (put the model in .eval()), with queries as rows."
        )


@final
@dataclass(frozen=True)
class Chain:
    """A Markov chain over the tokens of a sequence, or a batch of chains.

    Tokens that are no states stay in the matrix, so shapes and token numbers never change: nothing leads to them, but a
    walk may start there (the class token entering a chain of patches).

    Attributes:
        matrix: (…, token, token) transition probabilities, float32 or float64; columns of non-states are zero.
        states: (…, token) bool.

    Raises:
        AttentionError: the matrix is not row-stochastic, or leads to a token that is no state.
    """

    matrix: Tensor
    states: Tensor

    def __post_init__(self) -> None:
        check_rows(self.matrix, "the transition matrix")
        if self.states.dtype != torch.bool or self.states.shape != self.matrix.shape[:-1]:
            raise AttentionError(
                f"states is {self.states.dtype} of shape {tuple(self.states.shape)}; it must be bool of shape"
                f" {tuple(self.matrix.shape[:-1])}."
            )
        if bool(((self.matrix.detach() > 0).any(-2) & ~self.states).any()):
            raise AttentionError("the matrix leads to a token that is no state; build such chains with `restrict`.")

    def __len__(self) -> int:
        return self.matrix.shape[-1]

    @property
    def uniform(self) -> Tensor:
        """(…, token): equal probability on every state."""
        states = self.states.to(self.matrix.dtype)
        return states / states.sum(-1, keepdim=True)


def as_chain(P: Tensor | Chain) -> Chain:
    """`P` itself, or the chain of a map (…, token, token) in which every token is a state.

    16-bit maps become float32 and have their rounding removed: each row is divided by its sum.

    Raises:
        AttentionError: the map is not row-stochastic.
    """
    if isinstance(P, Chain):
        return P
    every = torch.ones(P.shape[:-1], dtype=torch.bool, device=P.device)
    if P.dtype in (torch.float32, torch.float64):
        return Chain(P, every)
    check_rows(P, "the transition matrix")
    matrix = in_float32(P)
    return Chain(matrix / matrix.sum(-1, keepdim=True), every)


def in_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is when it is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def restrict(P: Tensor | Chain, states: Tensor) -> Chain:
    """The chain that only ever visits `states`: other columns dropped, rows renormalised.

    Equal to dropping the other tokens' logits before the softmax. The other tokens remain as possible starts; one that
    sends nothing to the states (padding) starts uniformly.

    Args:
        P: (…, token, token).
        states: bool, broadcastable to (…, token).

    Raises:
        AttentionError: a state whose whole row led to dropped tokens, or no state at all.

    >>> P = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.3, 0.2], [0.0, 0.5, 0.5]])
    >>> restrict(P, torch.tensor([False, True, True])).matrix[1]
    tensor([0.0000, 0.6000, 0.4000])
    """
    chain = as_chain(P)
    states = states.to(chain.states.device).broadcast_to(chain.states.shape) & chain.states
    scaled = rescale(chain.matrix, states)
    return Chain(scaled * states[..., None, :], states)


def rescale(maps: Tensor, states: Tensor) -> Tensor:
    """Maps (…, query, key) with each row scaled so that what it sends to `states` (…, key) sums to one.

    Rows that are no states and send nothing there (padding) become uniform over the states, whatever they held: no
    walk comes to them.
    """
    if not bool(states.any(-1).all()):
        raise AttentionError("a restriction leaves no state; keep at least one token in every example.")
    columns = states[..., None, :]
    kept = torch.where(columns, maps, 0).sum(-1, keepdim=True)
    empty = ~(kept > 0)
    if bool((empty[..., 0] & states).any()):
        where = (empty[..., 0] & states).nonzero()[0].tolist()
        raise AttentionError(
            f"token {where[-1]} (index {where}) sends all its attention to tokens outside the chain, so its row cannot"
            " be renormalised. Keep one of the tokens it attends to, or leave this token out too."
        )
    if not bool(empty.any()):
        return maps / kept
    uniform = columns / columns.sum(-1, keepdim=True)
    return torch.where(empty, uniform.to(maps.dtype), maps / kept)


def damp(P: Tensor | Chain, damping: float, personalization: Tensor | None = None) -> Chain:
    """damping · P + (1 − damping) · 1 vᵀ: with probability 1 − damping the walk jumps to a state drawn from v.

    Every eigenvalue but the first is multiplied by `damping`.

    Args:
        P: (…, token, token).
        damping: between 0 and 1.
        personalization: v (…, token), a distribution over the states; uniform when None.

    Raises:
        AttentionError: damping outside [0, 1]; personalization not a distribution, or with mass outside the states.

    >>> damp(torch.eye(2), 0.9).matrix
    tensor([[0.9500, 0.0500],
            [0.0500, 0.9500]])
    """
    chain = as_chain(P)
    check_damping(damping)
    jump = teleport(chain, personalization)
    return Chain(damping * chain.matrix + (1 - damping) * jump[..., None, :], chain.states)


def check_damping(damping: float) -> None:
    if not 0 <= damping <= 1:
        raise AttentionError(
            f"damping is {damping}; it is the probability of following the chain, between 0 and 1 (0.99 is usual)."
        )


def teleport(chain: Chain, personalization: Tensor | None) -> Tensor:
    """The checked jump distribution (…, token), uniform over the states when none is given."""
    if personalization is None:
        return chain.uniform
    jump = distribution(chain, personalization, "personalization")
    if bool((jump[~chain.states] > 0).any()):
        raise AttentionError("personalization has mass on tokens that are no states of the chain; set it to zero there.")
    return jump


def distribution(chain: Chain, vector: Tensor, name: str) -> Tensor:
    """The checked distribution `vector` broadcast to (…, token), in the chain's type.

    Raises:
        AttentionError: another length, NaN, negative, or a sum other than one.
    """
    shape = chain.states.shape
    if vector.ndim == 0 or vector.shape[-1] != shape[-1]:
        raise AttentionError(f"{name} has shape {tuple(vector.shape)}; the chain has {shape[-1]} tokens: {tuple(shape)}.")
    try:
        vector = vector.to(chain.matrix).broadcast_to(shape)
    except RuntimeError:
        raise AttentionError(f"{name} has shape {tuple(vector.shape)}; it must broadcast to {tuple(shape)}.") from None
    total = vector.detach().sum(-1)
    if not bool(((total - 1).abs() <= 1e-3).all()) or bool((vector < 0).any()):
        worst = total.flatten()[(total - 1).abs().nan_to_num(torch.inf).argmax()]
        raise AttentionError(
            f"{name} is not a distribution: it sums to {float(worst):.4g} and its least entry is {float(vector.min()):.4g}."
            " Pass non-negative numbers that sum to one (v / v.sum(-1, keepdim=True))."
        )
    return vector


def reverse(P: Tensor | Chain) -> Chain:
    """The chain of where attention came from: columns of P normalised, then transposed.

    From token j it moves to a token i that attends to j, with probability P_ij / Σ_k P_kj.

    Raises:
        AttentionError: a state that no state attends to; its reversed row would have no mass.
    """
    chain = as_chain(P)
    received = (chain.matrix * chain.states[..., None]).sum(-2)
    if bool((chain.states & ~(received > 0)).any()):
        where = (chain.states & ~(received > 0)).nonzero()[0].tolist()
        raise AttentionError(
            f"no state attends to token {where[-1]} (index {where}), so the chain cannot be reversed there. Damp it first."
        )
    return reversed_over(chain.matrix, chain.states)


def reversed_over(scaled: Tensor, states: Tensor) -> Chain:
    """The reversed chain of `rescale`d maps; tokens outside `states` start where attention to them comes from."""
    backward = rescale(scaled.mT, states)
    return Chain(torch.where(states[..., None, :], backward, 0), states)


def bounce(P: Tensor | Chain, start: Tensor | int, steps: int = 2, path: bool = False) -> Tensor:
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
        v = (v[..., None, :] @ chain.matrix)[..., 0, :]
        visited.append(v)
    return torch.stack(visited, -2) if path else v


def one_hot(chain: Chain, token: int) -> Tensor:
    """(token,): all mass on one token.

    Raises:
        AttentionError: the token does not exist.
    """
    n = len(chain)
    if not -n <= token < n:
        raise AttentionError(f"start token {token} does not exist; the chain has {n} tokens, numbered 0 to {n - 1}.")
    v = chain.matrix.new_zeros(n)
    v[token] = 1
    return v
