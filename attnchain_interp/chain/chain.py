"""Markov chains over tokens.

A map A (…, query, key) whose rows sum to one is a transition matrix: from token i the walk moves to token j with
probability A_ij. Distributions are row vectors, one step is v ↦ vA. Source: Erel et al., *Attention (as Discrete-Time
Markov) Chains*, NeurIPS 2025.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from attnchain_interp.checks import check_probability, check_tensor
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Dense, Factors, Operator, float32_or_wider, wide_dtype
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.operator import uniform_over

ROW_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # 16-bit maps are rounded after the softmax: 2e-2

MASKED: Final = (
    "A query with every key masked becomes NaN in a softmax, and in later layers so do all tokens of its example: mark such"
    " queries as Role.PAD in the TokenLayout, or where a model of transformers in float64 pads them, load it with"
    ' attn_implementation="sdpa" or in float32.'
)


@torch.no_grad()
def check_rows(maps: Tensor, name: str, rows: Tensor | None = None, below_one: bool = False) -> None:
    """Checks that every row is a distribution over the keys.

    Args:
        maps: (…, query, key).
        name: of the maps, for the message.
        rows: bool, broadcastable to (…, query). Rows that are false (padding) are not looked at.
        below_one: rows may sum to less than one (an attention sink was dropped after the softmax).
    """
    if not maps.is_floating_point() or maps.itemsize < 2:
        raise AttentionError(f"{name} is {maps.dtype}.", "Pass floating-point probabilities of 16 bits or more.")
    low = maps.amin(-1)
    sums = maps.sum(-1, dtype=wide_dtype(maps.dtype))
    if rows is not None:
        rows = rows.expand_as(sums)
    broken = ~sums.isfinite() if rows is None else rows & ~sums.isfinite()
    if bool(broken.any()):
        raise _not_finite(name, broken)
    if rows is not None:
        low, sums = low[rows], sums[rows]
    if low.numel() and float(low.min()) < 0:
        raise AttentionError(
            f"{name} has negative entries (least {float(low.min()):.3g}). Signed attention (talking heads, differential"
            " attention) is not a chain.",
            "Pass probabilities after the softmax.",
        )
    off = sums - 1 if below_one else (sums - 1).abs()
    worst = off.max().item() if sums.numel() else 0.0
    if worst > ROW_TOLERANCE.get(maps.dtype, 2e-2):
        raise AttentionError(
            f"{name} is not row-stochastic: a row sums to 1 {'+' if below_one else '±'} {worst:.3g}.",
            "Pass probabilities after the softmax and before dropout (put the model in .eval()), with queries as rows. If the"
            " softmax has a sink, rows are below one: pass LayerAttention(…, sink=True). Maps of a 16-bit model that were"
            " widened since are renormalised by P / P.sum(-1, keepdim=True).",
        )


def _not_finite(name: str, broken: Tensor) -> AttentionError:
    """Returns the refusal of rows (…, query) with NaN or infinity. It names their maps, as (example, head) of a layer."""
    cause = f"{name} holds {int(broken.sum())} rows with NaN or infinity"
    there = broken.any(-1)
    if there.ndim == 0:
        return AttentionError(f"{cause}.", f"{MASKED} Or find the overflow.")
    those = [tuple(index) for index in there.nonzero().tolist()]
    named = ", ".join(map(str, those[:4])) + (" …" if len(those) > 4 else "")
    return AttentionError(
        f"{cause}, in {len(those)} of {there.numel()} maps: {named}.",
        f"{MASKED} Or find the overflow. The other maps have answers: P[P.isfinite().all(-1).all(-1)].",
    )


def renormalised(maps: Tensor) -> Tensor:
    """Returns maps (…, query, key) with rows divided by their sums; the same maps where rows are off by rounding alone."""
    sums = maps.sum(-1, keepdim=True)
    if maps.requires_grad:  # a gradient does not depend on the rounding of the other maps
        return maps / sums
    return maps / sums if bool(((sums - 1).abs() > 10 * torch.finfo(maps.dtype).eps).any()) else maps


def check_square(maps: Tensor, name: str) -> None:
    """Checks that maps have as many queries as keys."""
    if maps.ndim < 2 or maps.shape[-1] != maps.shape[-2] or maps.shape[-1] == 0:
        raise AttentionError(
            f"{name} has shape {tuple(maps.shape)}; a chain needs square maps (…, query, key).",
            "Pass self-attention. Cross-attention and pooled attention are not chains.",
        )


@final
class Chain:
    """A Markov chain over the tokens of a sequence, or a batch of chains. It does not change once it is made.

    Tokens that are not states stay in the matrix, so shapes and token numbers never change. Nothing leads to such a token,
    but a walk may start there (the class token that enters a chain of patches).

    Args:
        transitions: (…, token, token) transition probabilities, float32 or float64, zero in the columns of tokens that are
            not states; or an `Operator`, whose matrix need not exist. Rows whose sums are off by more than the rounding of
            their type, and by no more than `ROW_TOLERANCE`, are divided by them.
        states: (…, token) bool.
        absorbing: rows may sum to less than one. With the missing probability the walk ends (`absorb`).
        check: look at every entry. Pass False for entries that are known to be right.

    Attributes:
        answers: the results of `mixing` for this chain, by damping. A second question costs nothing.

    Raises:
        AttentionError: the matrix is not row-stochastic, has another type, or leads to a token that is not a state.
    """

    def __init__(self, transitions: Tensor | Operator, states: Tensor, *, absorbing: bool = False, check: bool = True) -> None:
        if not isinstance(transitions, Operator):
            check_tensor("transitions", transitions, "(…, token, token)")
        check_tensor("states", states, "(…, token)")
        self.transitions = Dense(transitions) if isinstance(transitions, Tensor) else transitions
        self.states = states
        self.absorbing = absorbing
        self.answers: dict[float, tuple[Tensor, Tensor, Tensor]] = {}  # of `mixing`, by damping: no cycle keeps a chain alive
        shape = self.transitions.shape[:-1]
        if self.dtype not in (torch.float32, torch.float64):
            raise AttentionError(
                f"the transition matrix is {self.dtype}; a chain is float32 or float64.", "Pass matrix.float()."
            )
        if states.dtype != torch.bool or states.shape != shape:
            raise AttentionError(
                f"states is {states.dtype} of shape {tuple(states.shape)}; it must be bool of shape {tuple(shape)}.",
                "Pass a bool for every token: true for a state.",
            )
        if check and isinstance(self.transitions, Dense):
            check_square(self.transitions.matrix, "the transition matrix")
            check_rows(self.transitions.matrix, "the transition matrix", below_one=absorbing)
            if not absorbing:
                self.transitions = Dense(renormalised(self.transitions.matrix))
            if not bool(states.all()) and bool((self.transitions.matrix.detach().any(-2) & ~states).any()):
                raise AttentionError("the matrix leads to a token that is not a state.", "Build the chain with restrict().")

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
        """The transition probabilities (…, token, token). A factored chain builds them here."""
        return self.transitions.dense()

    def step(self, v: Tensor) -> Tensor:
        """Returns vP for distributions v (…, token), without building the matrix."""
        return self.transitions.left(v[..., None, :])[..., 0, :]

    @property
    def causal(self) -> bool:
        """Says whether no state leads to a later one."""
        return bool(self.transitions.triangular(self.states, upper=False).all())

    @property
    def uniform(self) -> Tensor:
        """Equal probability on every state (…, token)."""
        return uniform_over(self.states, self.dtype)


def as_chain(P: Tensor | Factors | Chain) -> Chain:
    """Returns a chain as it is, and the chain of a map (…, token, token) or of `Factors`, in which every token is a state.

    16-bit maps become float32. Rows that are off by the rounding of a 16-bit model are divided by their sums, in maps of every
    type. A sink among the factors is dropped: rows are renormalised.

    Raises:
        AttentionError: the map is not row-stochastic.
    """
    if isinstance(P, Chain):
        return P
    if callable(getattr(P, "chain", None)):
        raise AttentionError(
            f"P is of type {type(P).__name__}; it must be a chain or a map.", "Pass its chain: store.chain()."
        )
    if not isinstance(P, Factors):
        check_tensor("P", P, "(…, token, token)")
    every = torch.ones(P.shape[:-1], dtype=torch.bool, device=P.device)
    if isinstance(P, Factors):
        return Chain(FactoredMap(P).conditioned(every), every, check=False)
    if P.dtype in (torch.float32, torch.float64):
        return Chain(P, every)
    check_square(P, "the transition matrix")
    check_rows(P, "the transition matrix")
    return Chain(renormalised(float32_or_wider(P)), every, check=False)


def check_damping(damping: float) -> None:
    """Refuses a damping outside [0, 1]."""
    check_probability("damping", damping, "the probability of following the chain", 0.99)
