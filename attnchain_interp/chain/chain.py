"""Markov chains over tokens: restriction, damping and reversal.

A map A (…, query, key) whose rows sum to one is a transition matrix: from token i the walk moves to token j with
probability A_ij. Distributions are row vectors, one step is v ↦ vA. Source of the reading: Erel et al., *Attention (as
Discrete-Time Markov) Chains*, NeurIPS 2025.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.chain.map_checks import check_rows, check_square
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.dense import Dense
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Operator, uniform_over
from attnchain_interp.operators.precision import float32_or_wider


@final
class Chain:
    """A Markov chain over the tokens of a sequence, or a batch of chains. Not changed once made.

    Tokens that are no states stay in the matrix, so shapes and token numbers never change: nothing leads to them, but a
    walk may start there (the class token entering a chain of patches).

    Args:
        transitions: (…, token, token) transition probabilities, float32 or float64, columns of non-states zero; or an
            `Operator`, whose matrix need not exist.
        states: (…, token) bool.
        absorbing: rows may sum to less than one; with the missing probability the walk ends (`absorb`).
        check: look at every entry; false where it is known what they are.

    Raises:
        AttentionError: the matrix is not row-stochastic, or leads to a token that is no state.
    """

    def __init__(self, transitions: Tensor | Operator, states: Tensor, absorbing: bool = False, check: bool = True) -> None:
        self.transitions = Dense(transitions) if isinstance(transitions, Tensor) else transitions
        self.states = states
        self.absorbing = absorbing
        self.answers: dict[float, Any] = {}  # of `mixing`, by damping
        shape = self.transitions.shape[:-1]
        if states.dtype != torch.bool or states.shape != shape:
            raise AttentionError(
                f"states is {states.dtype} of shape {tuple(states.shape)}; it must be bool of shape {tuple(shape)}."
            )
        if check and isinstance(self.transitions, Dense):
            check_square(self.transitions.matrix, "the transition matrix")
            check_rows(self.transitions.matrix, "the transition matrix", below_one=absorbing)
            if not bool(states.all()) and bool((self.transitions.matrix.detach().any(-2) & ~states).any()):
                raise AttentionError("the matrix leads to a token that is no state; build such chains with `restrict`.")

    def __len__(self) -> int:
        return self.transitions.shape[-1]

    def __repr__(self) -> str:
        held = "held as a matrix" if isinstance(self.transitions, Dense) else "factored"
        return f"Chain({tuple(self.transitions.shape)}, {self.dtype}, {held})"

    @property
    def dtype(self) -> torch.dtype:
        return self.transitions.dtype

    @property
    def device(self) -> torch.device:
        return self.transitions.device

    @property
    def matrix(self) -> Tensor:
        """(…, token, token): the transition probabilities; a factored chain builds them here."""
        return self.transitions.dense()

    def step(self, v: Tensor) -> Tensor:
        """v ↦ vP for distributions (…, token), without building the matrix."""
        return self.transitions.left(v[..., None, :])[..., 0, :]

    @property
    def causal(self) -> bool:
        """Whether nothing leads from a state to a later one."""
        return bool(self.transitions.triangular(self.states, upper=False).all())

    @property
    def uniform(self) -> Tensor:
        """(…, token): equal probability on every state."""
        return uniform_over(self.states, self.dtype)


def as_chain(P: Tensor | Factors | Chain) -> Chain:
    """`P` itself, or the chain of a map (…, token, token) or of `Factors` in which every token is a state.

    16-bit maps become float32 and have their rounding removed: each row is divided by its sum. A sink among the factors is
    dropped: rows are renormalised.

    Raises:
        AttentionError: the map is not row-stochastic.
    """
    if isinstance(P, Chain):
        return P
    every = torch.ones(P.shape[:-1], dtype=torch.bool, device=P.device)
    if isinstance(P, Factors):
        return Chain(FactoredMap(P).conditioned(every), every, check=False)
    if P.dtype in (torch.float32, torch.float64):
        return Chain(P, every)
    check_square(P, "the transition matrix")
    check_rows(P, "the transition matrix")
    matrix = float32_or_wider(P)
    return Chain(matrix / matrix.sum(-1, keepdim=True), every, check=False)


def restrict(P: Tensor | Factors | Chain, states: Tensor) -> Chain:
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
    states = states.to(chain.device).broadcast_to(chain.states.shape) & chain.states
    return Chain(chain.transitions.conditioned(states).scaled(columns=states), states, check=False)


def absorb(P: Tensor | Factors | Chain, tokens: Tensor) -> Chain:
    """The chain that ends as soon as it reaches one of `tokens`: they are no states any more, and rows are not renormalised.

    What a row sent to them is the probability that the walk ends there: see `expected_visits`.

    Args:
        P: (…, token, token).
        tokens: bool, broadcastable to (…, token).

    Raises:
        AttentionError: no state is left.

    >>> absorb(torch.tensor([[1.0, 0.0], [0.4, 0.6]]), torch.tensor([True, False])).matrix
    tensor([[0.0000, 0.0000],
            [0.0000, 0.6000]])
    """
    chain = as_chain(P)
    states = chain.states & ~tokens.to(chain.device).broadcast_to(chain.states.shape)
    if not bool(states.any(-1).all()):
        raise AttentionError("every state absorbs; keep at least one in every example that does not.")
    return Chain(chain.transitions.scaled(columns=states), states, absorbing=True, check=False)


def damp(P: Tensor | Factors | Chain, damping: float, personalization: Tensor | None = None) -> Chain:
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
    followed = chain.transitions.scaled(torch.full_like(jump, damping))
    return Chain(followed.plus(torch.full_like(jump, 1 - damping), jump), chain.states, chain.absorbing, check=False)


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
        vector = vector.to(chain.device, chain.dtype).broadcast_to(shape)
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


def reverse(P: Tensor | Factors | Chain) -> Chain:
    """The chain of where attention came from: columns of P normalised, then transposed.

    From token j it moves to a token i that attends to j, with probability P_ij / Σ_k P_kj.

    Raises:
        AttentionError: a state that no state attends to; its reversed row would have no mass.
    """
    chain = as_chain(P)
    received = chain.step(chain.states.to(chain.dtype))
    if bool((chain.states & ~(received > 0)).any()):
        where = (chain.states & ~(received > 0)).nonzero()[0].tolist()
        raise AttentionError(
            f"no state attends to token {where[-1]} (index {where}), so the chain cannot be reversed there. Damp it first."
        )
    return reversed_over(chain.transitions, chain.states)


def reversed_over(transitions: Operator, states: Tensor) -> Chain:
    """The reversed chain of `conditioned` maps; tokens outside `states` start where attention to them comes from."""
    return Chain(transitions.transposed().conditioned(states).scaled(columns=states), states, check=False)


def one_hot(chain: Chain, token: int) -> Tensor:
    """(token,): all mass on one token.

    Raises:
        AttentionError: the token does not exist.
    """
    n = len(chain)
    if not -n <= token < n:
        raise AttentionError(f"start token {token} does not exist; the chain has {n} tokens, numbered 0 to {n - 1}.")
    v = torch.zeros(n, dtype=chain.dtype, device=chain.device)
    v[token] = 1
    return v
