"""Random ranking: the control that every method must beat."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.tokens import TokenSelection


@final
class RandomRanking(AttentionAttribution):
    """Uniform random scores in [0, 1) for the selected tokens; the same seed gives the same scores.

    Args:
        forward_func, tokens: as in `AttentionAttribution`; the model only tells how many tokens there are.
        seed: of the scores. One generator serves the whole batch.

    Raises:
        AttentionError: on attribution, as `capture`.
    """

    def __init__(self, forward_func: Any = None, seed: int = 0, tokens: TokenSelection = None) -> None:
        super().__init__(forward_func, layers=-1, tokens=tokens)
        self.seed = seed

    def score(self, store: AttentionStore) -> Tensor:
        return self.score_part(store, 0)

    def score_part(self, store: AttentionStore, first: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        scores = torch.rand(first + store.batch, len(store.tokens), generator=generator)[first:]
        return scores * store.tokens.select(self.tokens)
