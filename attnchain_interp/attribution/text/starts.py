"""Where the walk of a method is started for an output token, and what is done by methods that have no start."""

from __future__ import annotations

import copy

from torch import Tensor

from attnchain_interp.attribution.of_a_class.gradient_token_rank import GradientTokenRank
from attnchain_interp.attribution.of_attention.multi_bounce import MultiBounce
from attnchain_interp.attribution.of_attention.random_ranking import RandomRanking
from attnchain_interp.attribution.of_attention.raw_attention import RawAttention
from attnchain_interp.attribution.of_attention.token_rank import TokenRank
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.errors import AttentionError


def started_at(method: TokenAttribution, start: int | Tensor) -> TokenAttribution | None:
    """A copy of the method whose walk begins at a token by number, or in a distribution; None where it has no start.

    Raises:
        AttentionError: a method that reads a column, which has no row to start.
    """
    if isinstance(method, RawAttention):
        if method.select == "column":
            raise AttentionError(
                'RawAttention(select="column") tells who attends to a token, and no earlier token attends to one that is to be'
                ' predicted; use select="row".'
            )
        if isinstance(start, Tensor):  # one hop from all tokens, each with its share: row by row, and together
            return MultiBounce(None, 1, start, method.layers, method.heads, method.tokens)
        moved = copy.copy(method)
        moved.token = start
        return moved
    if not hasattr(method, "start"):
        return None
    moved = copy.copy(method)
    moved.start = start  # type: ignore[attr-defined]
    return moved


def policy_of(method: TokenAttribution) -> str:
    """What a method does with the context of an output token, in words for the result."""
    if isinstance(method, RandomRanking):
        return "random scores of every token of the context"
    if isinstance(method, RawAttention) or hasattr(method, "start"):
        return "the walk starts at the position that predicts the output token and sees the context alone"
    if isinstance(method, GradientTokenRank) and method.personalization is None:
        return "jumps lead to the position that predicts the output token: its context is ranked as a whole"
    if isinstance(method, TokenRank):
        policy, damping = method.policy(decoder=True)
        rank = f"causal={policy!r}" + (f", damping={damping}" if policy != "absorb" else "")
        where = "jumps lead to the position that predicts the output token" if policy == "last" else "no start"
        return f"{where}: the context of each output token is ranked as a whole, {rank}"
    return "no start: the context of each output token is scored as a whole"
