"""The mask of self-attention guidance: which tokens of an image attention makes important."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from attnchain_interp.chain.functionals import stationary
from attnchain_interp.checks import check_one_of
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.starts import DAMPING

Importance = Literal["token-rank", "column-sum", "random"]


def important_tokens(store: AttentionStore, importance: Importance, generator: torch.Generator | None = None) -> Tensor:
    """Returns (batch, token) bool: the tokens of an image that receive more attention than the average token.

    - "column-sum": tokens that receive more than the attention of one token, Σ_i A_ij > 1, as published for self-attention
      guidance.
    - "token-rank": tokens with more than the uniform share of the stationary distribution (damping 0.99), N π_j > 1.
    - "random": as many tokens as "token-rank" selects, at random places: the control.

    Args:
        store: attention of the image to itself; layers and heads are averaged.
        importance: one of the three.
        generator: draws the random tokens.

    Raises:
        AttentionError: another importance.

    Source: Hong et al., ICCV 2023 (column sum); Erel et al., NeurIPS 2025 (TokenRank).
    """
    check_one_of("importance", importance, get_args(Importance))
    chain = store.chain(tokens="all")
    if importance == "column-sum":
        return chain.step(torch.ones_like(chain.uniform)) > 1
    rank = len(chain) * stationary(chain, damping=DAMPING) > 1
    if importance == "token-rank":
        return rank
    order = torch.rand(rank.shape, generator=generator).argsort(1).argsort(1).to(rank.device)
    return order < rank.sum(1, keepdim=True)
