"""Multi-bounce attention: where attention from a token goes in several steps."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.chain.functionals import bounce
from attnchain_interp.store.attention_store import AttentionStore, Direction
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, start_distribution
from attnchain_interp.store.tokens import TokenSelection


@final
class MultiBounce(AttentionAttribution):
    """The distribution of a walk after `steps` steps from a start: v Pⁿ. Scores of an example sum to one.

    One step from the class token is its row of attention over the states, renormalised; a start that is no state enters
    the chain by its own row and is never returned to.

    Args:
        forward_func: as in `AttentionAttribution`.
        steps: how many, 0 or more.
        start: "class", "last" (the last token that is no padding: in a decoder the one that predicts the next), "center" (the
            centre patch), "uniform", a token by number, or distributions (token,) or (batch, token) over all tokens. None
            means the class token where there is one; else "last" in a decoder, and "uniform" in any other model.
        layers, heads, tokens, direction: as in `AttentionAttribution`.

    Raises:
        AttentionError: on attribution, for a start that does not exist or is no distribution, negative steps, and as
            `capture`.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        steps: int = 2,
        start: Start | None = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
    ) -> None:
        super().__init__(forward_func, layers, heads, tokens, direction)
        self.steps, self.start = steps, start

    def score(self, store: AttentionStore) -> Tensor:
        chain = self.chain(store)
        return bounce(chain, start_distribution(chain, store.tokens, self.start), self.steps)
