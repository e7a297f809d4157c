"""Which tokens of an image attention makes important: the mask of self-attention guidance."""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import Tensor

from attnchain_interp.chain.functionals import stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore

Importance = Literal["token-rank", "column-sum", "random"]

_DAMPING: Final = 0.99


def important_tokens(store: AttentionStore, importance: Importance, generator: torch.Generator | None = None) -> Tensor:
    """(batch, token) bool: the tokens of an image to which more attention goes than to the mean one.

    - "column-sum": more than one token's attention goes there, Σ_i A_ij > 1, as published for self-attention guidance.
    - "token-rank": the share of the stationary distribution (damping 0.99) is greater than the uniform one, N π_j > 1.
    - "random": as many as "token-rank" has, anywhere: the control.

    Args:
        store: of the image's own attention; layers and heads are averaged.
        importance: which of these.
        generator: of the random tokens.

    Raises:
        AttentionError: another importance.

    Source: Hong et al., ICCV 2023 (column sum); Erel et al., NeurIPS 2025 (TokenRank).
    """
    check_importance(importance)
    chain = store.chain(tokens="all")
    if importance == "column-sum":
        return chain.step(torch.ones_like(chain.uniform)) > 1
    rank = len(chain) * stationary(chain, damping=_DAMPING) > 1
    if importance == "token-rank":
        return rank
    order = torch.rand(rank.shape, generator=generator).argsort(1).argsort(1).to(rank.device)
    return order < rank.sum(1, keepdim=True)


def check_importance(importance: Importance) -> None:
    """
    Raises:
        AttentionError: no importance that is known.
    """
    known = get_args(Importance)
    if importance not in known:
        raise AttentionError(f"importance={importance!r} is unknown; use {', '.join(map(repr, known))}.")
