"""New chains of given ones: restriction, absorption, damping, reversal and balancing."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain, check_damping
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.chain.vectors import teleport, token_mask
from attnchain_interp.checks import check_probability
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors, Operator
from attnchain_interp.operators.composed import total


def restrict(P: Tensor | Factors | Chain, states: Tensor) -> Chain:
    """Returns the chain that visits `states` only: other columns are dropped, rows are renormalised.

    The result equals dropping the logits of the other tokens before the softmax. A walk may still start at another token;
    one that sends nothing to the states (padding) starts uniformly.

    Args:
        P: (…, token, token).
        states: bool, broadcastable to (…, token).

    Raises:
        AttentionError: a state whose whole row led to dropped tokens, or no state at all; a mask that is not bool or has
            another length.

    >>> P = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.3, 0.2], [0.0, 0.5, 0.5]])
    >>> restrict(P, torch.tensor([False, True, True])).matrix[1]
    tensor([0.0000, 0.6000, 0.4000])
    """
    chain = as_chain(P)
    states = token_mask(chain, states, "states") & chain.states
    return Chain(chain.transitions.conditioned(states).scaled(columns=states), states, check=False)


def absorb(P: Tensor | Factors | Chain, tokens: Tensor) -> Chain:
    """Returns the chain that ends as soon as it reaches one of `tokens`: they are not states, rows are not renormalised.

    The probability that a row sent to `tokens` is the probability that the walk ends. See `expected_visits`.

    Args:
        P: (…, token, token).
        tokens: bool, broadcastable to (…, token).

    Raises:
        AttentionError: no state is left; a mask that is not bool or has another length.

    >>> absorb(torch.tensor([[1.0, 0.0], [0.4, 0.6]]), torch.tensor([True, False])).matrix
    tensor([[0.0000, 0.0000],
            [0.0000, 0.6000]])
    """
    chain = as_chain(P)
    states = chain.states & ~token_mask(chain, tokens, "tokens")
    if not bool(states.any(-1).all()):
        raise AttentionError("every state absorbs.", "Keep at least one state in every example that does not.")
    return Chain(chain.transitions.scaled(columns=states), states, absorbing=True, check=False)


def damp(P: Tensor | Factors | Chain, damping: float, personalization: Tensor | None = None) -> Chain:
    """Returns damping · P + (1 − damping) · 1 vᵀ: with probability 1 − damping the walk jumps to a state drawn from v.

    Every eigenvalue but the first is multiplied by `damping`.

    Args:
        P: (…, token, token).
        damping: in [0, 1].
        personalization: v (…, token), a distribution over the states. None means uniform.

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
    return Chain(followed.plus(torch.full_like(jump, 1 - damping), jump), chain.states, absorbing=chain.absorbing, check=False)


def reverse(P: Tensor | Factors | Chain) -> Chain:
    """Returns the reversed chain, which follows attention backwards: columns of P normalised, then transposed.

    From token j it moves to a token i that attends to j, with probability P_ij / Σ_k P_kj.

    Raises:
        AttentionError: no state attends to some state; its reversed row would have no mass.
    """
    chain = as_chain(P)
    return reversed_over(chain.transitions, chain.states)


def reversed_over(transitions: Operator, states: Tensor) -> Chain:
    """Returns the reversed chain of `conditioned` maps. Tokens outside `states` start where attention to them comes from."""
    received = transitions.left(states.to(transitions.dtype)[..., None, :])[..., 0, :]
    ignored = states & ~(received > 0)
    if bool(ignored.any()):
        where = ignored.nonzero()[0].tolist()
        raise AttentionError(
            f"no state attends to token {where[-1]} (index {where}), so the chain cannot be reversed there.",
            "Leave this token out, or damp the chain first: reverse(damp(P, 0.99)).",
        )
    return Chain(transitions.transposed().conditioned(states).scaled(columns=states), states, check=False)


def balance(P: Tensor | Factors | Chain, strength: float = 1.0) -> Chain:
    """Returns the balanced chain: each column of P divided by its mean, then each row scaled back to its own sum.

    B_ij ∝ P_ij / m_jˢ. The mean m_j of a column is over the states that can attend to token j: all states, and in a causal
    chain (decoders) j and the later ones. It takes the pull from tokens that everybody attends to. A token that is not a state
    keeps its row, by which a walk enters the chain. Columns to which no state attends stay empty. Walks of an absorbing chain
    end with the same probability at each step. A chain whose columns have equal means stays as it is. At full strength
    `balance(reverse(P))` equals `reverse(balance(P))`, where P is not causal.

    Args:
        P: (…, token, token) map, `Factors` or `Chain`. The map of factors is not built.
        strength: s, from 0 (nothing is done) to 1 (columns have equal means before rows are scaled back).

    Raises:
        AttentionError: a strength outside [0, 1].

    Source: one step of Sinkhorn & Knopp 1967 (columns, then rows), "pretty" in the public code of Erel et al. 2025; means
    of causal columns, and the strength, are this library's (docs/real-text.md).

    >>> balance(torch.tensor([[0.5, 0.5], [0.9, 0.1]])).matrix
    tensor([[0.3000, 0.7000],
            [0.7941, 0.2059]])
    """
    check_probability("strength", strength, "the power of the means by which columns are divided", 0.5)
    chain = as_chain(P)
    inside = chain.states.to(chain.dtype)
    sums, causal = chain.step(inside), chain.transitions.triangular(chain.states, upper=False)
    seeing = inside.flip(-1).cumsum(-1).flip(-1).clamp_min(1)
    means = torch.where(causal[..., None], sums / seeing, sums)  # the number of all states cancels in a row
    share = _inverse(means) ** strength * inside
    columns = chain.transitions.scaled(columns=share)
    kept, sent = (operator.sent_to(chain.states) for operator in (chain.transitions, columns))
    rows = columns.scaled(kept * _inverse(sent) * inside)
    if not bool(chain.states.all()):
        rows = total([rows, chain.transitions.scaled(1 - inside)])
    return Chain(rows, chain.states, absorbing=chain.absorbing, check=False)


def balanced_by(chain: Chain, strength: bool | float) -> Chain:
    """Returns the chain, balanced by a strength: True is full strength, and False leaves the chain as it is."""
    check_balanced(strength)
    return balance(chain, float(strength)) if strength else chain


def check_balanced(balanced: bool | float) -> None:
    """Refuses a strength outside [0, 1]."""
    check_probability("balanced", balanced, "whether the chain is balanced, or the strength", 0.5)


def _inverse(sums: Tensor) -> Tensor:
    there = sums > torch.finfo(sums.dtype).tiny
    return torch.where(there, 1 / torch.where(there, sums, 1), 0)


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
