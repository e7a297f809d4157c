"""Multi-bounce attention: several steps of a walk that follows attention."""

from __future__ import annotations

from typing import Any, ClassVar, final

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
    """The distribution v Pⁿ of a walk after `steps` steps from a start v. The scores of an example sum to one.

    One step from the class token is its row of attention over the states, renormalised. A start that is not a state enters
    the chain by its own row, and the walk does not return to it.

    Args:
        forward_func, layers, heads, tokens, direction: see `AttentionAttribution`.
        steps: n, 0 or more.
        start: "class", "last" (the last token that is not padding, which predicts the next token in a decoder), "center" (the
            centre patch), "uniform", "class-or-uniform", the position of a token, or distributions (token,) or (batch, token)
            over all tokens. None means the class token where there is one; else "last" in a decoder, and "uniform" in any
            other model.

    Raises:
        AttentionError: on attribution, for negative steps.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    has_start: ClassVar[bool] = True

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
