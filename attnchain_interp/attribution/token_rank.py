"""TokenRank: the stationary distribution as a token's global importance."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.attention_attribution import AttentionAttribution
from attnchain_interp.layers import LayerSelection
from attnchain_interp.stationary_distribution import stationary
from attnchain_interp.store import AttentionStore, Direction
from attnchain_interp.tokens import TokenSelection
from attnchain_interp.weighting import Heads


@final
class TokenRank(AttentionAttribution):
    """The stationary distribution of the attention chain: the share of time that an endless walk spends on each token.

    π = π (damping · P + (1 − damping) · 1 vᵀ). Scores of an example sum to one.

    Args:
        forward_func, layers, heads, tokens, direction: as in `AttentionAttribution`.
        damping: probability of following attention rather than jumping.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land; uniform over the states when
            None.

    Raises:
        AttentionError: on attribution, as `stationary` and `capture`.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        damping: float = 0.99,
        personalization: Tensor | None = None,
    ) -> None:
        super().__init__(forward_func, layers, heads, tokens, direction)
        self.damping, self.personalization = damping, personalization

    def score(self, store: AttentionStore) -> Tensor:
        return stationary(self.chain(store), self.damping, self.personalization)
