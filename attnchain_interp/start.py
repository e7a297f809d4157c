"""Where a walk begins: the class token, the centre patch, a token by number, everywhere, or a distribution."""

from __future__ import annotations

from torch import Tensor

from attnchain_interp.chain import Chain, distribution, one_hot
from attnchain_interp.errors import AttentionError
from attnchain_interp.tokens import Role, TokenLayout

Start = str | int | Tensor


def token_position(tokens: TokenLayout, token: str | int) -> int:
    """The position of "class", "center" or a token by number.

    Raises:
        AttentionError: an unknown name, a token out of range, no class token, no grid.
    """
    if isinstance(token, int):
        return tokens.position(token)
    if token == "class":
        return tokens.class_token
    if token == "center":
        return tokens.center
    raise AttentionError(f'the token {token!r} is unknown; use "class", "center" or a number.')


def start_distribution(chain: Chain, tokens: TokenLayout, start: Start | None) -> Tensor:
    """The distribution (…, token) in which a walk over the chain begins; "uniform" means over its states.

    None means the class token where there is one, else "uniform".

    Raises:
        AttentionError: as `token_position`; a tensor that is no distribution.
    """
    if start is None:
        start = "class" if bool((tokens.roles == Role.CLASS).any()) else "uniform"
    if isinstance(start, Tensor):
        if start.ndim == 2 and chain.states.ndim == 3:  # one start per example for every head
            start = start[:, None]
        return distribution(chain, start, "start")
    if start == "uniform":
        return chain.uniform
    return one_hot(chain, token_position(tokens, start)).expand_as(chain.states)
