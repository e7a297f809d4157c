"""Starts of walks, and targets of their jumps. `start_distribution` alone defines each `start`.

docs/text-defaults.md says how the default dampings were chosen. Traces, `attnchain_adapters.tracing`, import torch alone, so
they repeat the two numbers; a test compares them.
"""

from __future__ import annotations

from numbers import Integral
from typing import Final

import torch
from torch import Tensor

from attnchain_interp.chain import Chain
from attnchain_interp.chain.vectors import distribution
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.roles import Role
from attnchain_interp.store.tokens import TokenLayout

Start = str | int | Tensor
CLASS_OR_UNIFORM: Final = "class-or-uniform"
EVERYWHERE_DAMPING: Final = 0.99  # of TokenRank, where jumps lead everywhere
DECODER_DAMPING: Final = 0.5  # where they lead to the last token


def start_distribution(chain: Chain, tokens: TokenLayout, start: Start | None) -> Tensor:
    """Returns the distribution (…, token) in which a walk over the chain begins.

    Args:
        chain: the walk follows it.
        tokens: the layout of its tokens.
        start: one of

            - None: the class token where there is one; else "last" over a causal chain, and "uniform" over any other;
            - "class": the class token;
            - "last": the last token that is not padding; in a decoder it predicts the next token;
            - "center": the centre patch;
            - "uniform": every state, with equal probability;
            - "class-or-uniform": "class" where there is a class token, else "uniform", also over a causal chain;
            - the position of a token;
            - distributions (token,) or (batch, token) over all tokens.

    Raises:
        AttentionError: an unknown name, a token out of range or of padding, no class token, no grid, a tensor that is not a
            distribution.
    """
    if isinstance(start, Tensor):
        if start.ndim == 2 and chain.states.ndim == 3:  # one start per example for every head
            start = start[:, None]
        row = distribution(chain, start, "start")
        _refuse_padding(tokens, (row > 0).reshape(tokens.batch, -1, len(tokens)).any(1), "the start has mass on")
        return row
    if not (start is None or isinstance(start, str | Integral)):
        raise AttentionError(
            f"start is of type {type(start).__name__}; it must be a name, a number or a tensor (…, token).",
            'Pass the number of a token, "class", "center", "last" or "uniform", or a distribution as a tensor.',
        )
    if start is None or start == CLASS_OR_UNIFORM:
        if bool((tokens.roles == Role.CLASS).any()):
            start = "class"
        else:
            start = "last" if start is None and chain.causal else "uniform"
    if start == "uniform":
        return chain.uniform
    positions = token_positions(tokens, start)
    at = torch.nn.functional.one_hot(positions, len(tokens)).to(chain.device, chain.dtype)
    return at.reshape(len(at), *[1] * (chain.states.ndim - 2), -1).expand_as(chain.states)


def token_positions(tokens: TokenLayout, token: str | int) -> Tensor:
    """Returns the position (batch,) of "class", "center", "last" or a token by number in each example."""
    if isinstance(token, Role):  # which is an int, and no position
        token = token.name.lower()
    if isinstance(token, Integral):  # numpy's too
        positions = torch.full((tokens.batch,), tokens.position(int(token)), device="cpu")
        _refuse_padding(tokens, torch.nn.functional.one_hot(positions, len(tokens)) > 0, f"token {token} is")
        return positions
    if not isinstance(token, str):
        raise AttentionError(f"the token is of type {type(token).__name__}.", "Pass a name, or a number.")
    if token == "last":
        return tokens.last
    if token == "class":
        return tokens.class_tokens
    if token == "center":
        return torch.full((tokens.batch,), tokens.center, device="cpu")
    raise AttentionError(
        f"the token {token!r} is unknown.",
        f'Use "class", "center", "last" or a number. The start of a walk may also be "uniform" or "{CLASS_OR_UNIFORM}".',
    )


def _refuse_padding(tokens: TokenLayout, chosen: Tensor, clause: str) -> None:
    padding = (chosen.to(tokens.roles.device) & ~tokens.mask).any(1)
    if bool(padding.any()):
        raise AttentionError(
            f"{clause} padding in example {int(padding.int().argmax())}, or after the position of the target.",
            'Pass "last", the last token that is not padding, or distributions (batch, token) of a start.',
        )


def last_state(chain: Chain) -> Tensor:
    """Returns the distribution (…, token) with all mass on the last state of each chain."""
    places = torch.arange(1, len(chain) + 1, device=chain.device)
    return torch.nn.functional.one_hot((chain.states * places).argmax(-1), len(chain)).to(chain.dtype)


def jump_to_last(chain: Chain, tokens: TokenLayout) -> Tensor:
    """Returns the distribution (…, token) of a jump to the last token that is not padding, which predicts the next token.

    Where that token is not a state (the text after the patches of an image), the walk lands where the token attends to.
    Where it attends to no state, the walk lands evenly on all of them.
    """
    last = start_distribution(chain, tokens, "last")
    inside = (last * chain.states).sum(-1, keepdim=True) > 0
    return last if bool(inside.all()) else torch.where(inside, last, chain.step(last))


def default_damping(jumps_to_last: bool) -> float:
    """Returns the default damping where jumps lead to the last token, as they do in a decoder by default, or everywhere."""
    return DECODER_DAMPING if jumps_to_last else EVERYWHERE_DAMPING
