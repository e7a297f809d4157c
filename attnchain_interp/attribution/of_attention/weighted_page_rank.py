"""Weighted PageRank: token importance as Zero-TPrune assigns it before it prunes."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.chain.functionals import bounce
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import Heads, head_weights
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.tokens import TokenSelection


@final
class WeightedPageRank(AttentionAttribution):
    """s ← Aᵀ s from uniform importance, in each head by itself; then the root of the mean square over heads.

    A few steps of an undamped walk, so it lies between the column sum (one step) and TokenRank (many steps, damped). The
    root mean square lets a token that one head holds for important stand out, where a mean would level it; scores do
    therefore not sum to one. Published for one layer at a time; over several, every layer counts the same under the root.
    The paper's filter of heads, by the variance of their scores, is not applied.

    Args:
        forward_func: as in `AttentionAttribution`.
        steps: how many, the same in every layer; published with more in the first layers than in the last.
        layers, tokens: as in `AttentionAttribution`; every layer and every token by default.
        heads: as in `AttentionAttribution`; the weights of the mean under the root.

    Raises:
        AttentionError: on attribution, for negative steps, and as `capture`.

    Source: Wang, Dedhia & Jha, *Zero-TPrune: Zero-Shot Token Pruning through Leveraging of the Attention Graph in
    Pre-Trained Transformers*, CVPR 2024 (Weighted Page Rank; emphasizing informative regions).
    """

    def __init__(
        self,
        forward_func: Any = None,
        steps: int = 30,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
    ) -> None:
        super().__init__(forward_func, layers, heads, tokens)
        self.steps = steps

    def score(self, store: AttentionStore) -> Tensor:
        return torch.stack([self._mean_square(store, layer.name) for layer in store.select(self.layers)]).mean(0).sqrt()

    def _mean_square(self, store: AttentionStore, layer: str) -> Tensor:
        chain = store.chain(layer, "each", self.tokens)
        squares = bounce(chain, chain.uniform, self.steps).square()
        if self.heads == "each":
            return squares
        return torch.einsum("bh,bhi->bi", head_weights(store, self.heads, layer, self.tokens)[:, 0], squares)
