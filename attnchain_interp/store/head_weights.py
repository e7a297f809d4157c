"""Which heads count how much when one chain is made of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain
from attnchain_interp.chain.second_eigenvalue import second_eigenvalue
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.operator import Operator
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.tokens import TokenSelection

if TYPE_CHECKING:
    from attnchain_interp.store.attention_store import AttentionStore

Heads = str | Sequence[int] | Callable[[Tensor], Tensor]


def head_weights(
    store: AttentionStore, heads: Heads = "lambda2", layers: LayerSelection = "all", tokens: TokenSelection = None
) -> Tensor:
    """The weight of every head in its layer (batch, layer, head); sums to one over heads.

    - "mean": equal weights, the control.
    - "lambda2": |λ₂| of each head's chain, normalised: slow mixing, metastable heads count more.
    - "inverse-lambda2": 1 − |λ₂|, normalised: fast mixing heads count more.
    - a list of heads: equal weights on these.
    - a callable: transition matrices (batch, head, token, token) → non-negative weights (batch, head), normalised here.
      Factored layers build their maps for it.

    The chains are those over the selected `tokens` (the patches of an image by default), as the weights are meant for
    them. Heads that are all of weight zero (every |λ₂| = 0, or every one = 1 for the inverse) count the same.

    Raises:
        AttentionError: an unknown name, a head that does not exist, weights of a wrong shape or sign, or layers of
            different numbers of heads.

    Source: Erel et al. 2025 (λ₂-weighted head averaging).
    """
    states = store.tokens.select(tokens)
    rows = [layer_weights(layer.conditioned(states), layer.over_heads(states), heads) for layer in store.select(layers)]
    if len({row.shape for row in rows}) > 1:
        raise AttentionError(
            f"the layers have {[row.shape[1] for row in rows]} heads and cannot be stacked; ask for layers one by one."
        )
    return torch.stack(rows, 1)


def layer_weights(conditioned: Operator, states: Tensor, heads: Heads) -> Tensor:
    """`head_weights` (batch, head) of one layer, whose maps are `conditioned` on `states` (batch, head, token)."""
    batch, count = conditioned.shape[:2]
    equal = torch.ones(batch, count, dtype=conditioned.dtype, device=conditioned.device)
    if callable(heads):
        weights = heads(conditioned.scaled(columns=states).dense())
        if weights.shape != (batch, count) or bool((weights < 0).any()) or not bool(weights.isfinite().all()):
            raise AttentionError(
                f"the heads function returned shape {tuple(weights.shape)}, least {float(weights.min()):.3g}; it must"
                f" return finite, non-negative weights ({batch}, {count})."
            )
    elif not isinstance(heads, str):
        weights = torch.zeros_like(equal)
        if not len(heads):
            raise AttentionError("heads is an empty list; name at least one head.")
        for head in heads:
            if isinstance(head, bool) or not -count <= head < count:
                raise AttentionError(f"head {head!r} does not exist; the layer has {count}, numbered 0 to {count - 1}.")
            weights[:, head] = 1
    elif heads == "mean":
        weights = equal
    elif heads in ("lambda2", "inverse-lambda2"):
        weights = second_eigenvalue(Chain(conditioned.scaled(columns=states), states, check=False)).clamp(0, 1)
        weights = weights if heads == "lambda2" else 1 - weights
    else:
        raise AttentionError(
            f'heads={heads!r} is unknown; use "mean", "lambda2", "inverse-lambda2", "each", a list of heads or a function.'
        )
    total = weights.sum(1, keepdim=True)
    return torch.where(total > 0, weights / total, 1 / count)
