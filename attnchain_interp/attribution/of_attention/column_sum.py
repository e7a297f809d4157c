"""Column sum: how much attention a token receives in one hop."""

from __future__ import annotations

from typing import final

from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.chain.functionals import bounce
from attnchain_interp.store.attention_store import AttentionStore


@final
class ColumnSum(AttentionAttribution):
    """The column sums of the map over its states, divided by their number: one bounce from the uniform start.

    Scores of an example sum to one. The baseline that attention-based token pruning (H2O) and self-attention guidance
    (SAG) use.

    Args:
        forward_func, layers, heads, tokens, direction: as in `AttentionAttribution`.

    Raises:
        AttentionError: on attribution, as `capture`.
    """

    def score(self, store: AttentionStore) -> Tensor:
        chain = self.chain(store)
        return bounce(chain, chain.uniform, steps=1)
