"""Where a walk begins: the class token, the last, the centre patch, a token by number, everywhere, or a distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, distribution, one_hot
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.tokens import Role, TokenLayout

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


def class_or_uniform(tokens: TokenLayout, start: Start | None) -> Start:
    """The start; for None the class token where there is one, else "uniform"."""
    if start is not None:
        return start
    return "class" if bool((tokens.roles == Role.CLASS).any()) else "uniform"


def start_distribution(chain: Chain, tokens: TokenLayout, start: Start | None) -> Tensor:
    """The distribution (…, token) in which a walk over the chain begins; "uniform" means over its states.

    "last" is the last token that is no padding, which predicts what comes next in a decoder. None means the class token where
    there is one; else "last" over a causal chain, and "uniform" over any other.

    Raises:
        AttentionError: as `token_position`; a tensor that is no distribution.
    """
    if start is None:
        start = class_or_uniform(tokens, None)
        start = "last" if start == "uniform" and chain.causal else start
    if isinstance(start, Tensor):
        if start.ndim == 2 and chain.states.ndim == 3:  # one start per example for every head
            start = start[:, None]
        return distribution(chain, start, "start")
    if start == "uniform":
        return chain.uniform
    if start == "last":
        last = torch.nn.functional.one_hot(tokens.last, len(tokens)).to(chain.device, chain.dtype)
        return last.reshape(len(last), *[1] * (chain.states.ndim - 2), -1).expand_as(chain.states)
    return one_hot(chain, token_position(tokens, start)).expand_as(chain.states)


def last_state(chain: Chain) -> Tensor:
    """(…, token): one at the last state of each chain."""
    places = torch.arange(1, len(chain) + 1, device=chain.device)
    return torch.nn.functional.one_hot((chain.states * places).argmax(-1), len(chain)).to(chain.dtype)
