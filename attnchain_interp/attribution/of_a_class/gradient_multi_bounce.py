"""Gradient multi-bounce: some steps of the walk that follows attention where it speaks for the target."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_a_class.gradient_chain import gradient_chain
from attnchain_interp.chain.functionals import bounce
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, start_distribution
from attnchain_interp.store.tokens import TokenSelection


@final
class GradientMultiBounce(AttentionGradientAttribution):
    """The distribution v Pⁿ after `steps` steps from a start, of P = W with rows divided by their sums,
    W = Σ_l mean_h A ⊙ ReLU(∇A).

    As `MultiBounce`, of a walk that takes a transition the more often the more it raises the target's score. Rows of W that
    are zero keep the plain attention of their token. Scores of an example sum to one. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        steps: how many, 0 or more.
        start: as in `MultiBounce`.
        tokens: as in `GradientTokenRank`.

    Raises:
        AttentionError: on attribution, for a start that does not exist or is no distribution, negative steps, and as
            `capture_gradients`.

    Source: this library; the bounces of Erel et al. 2025 with the weights of Chefer et al. 2021.
    """

    def __init__(
        self,
        forward_func: Any = None,
        steps: int = 2,
        start: Start | None = None,
        layers: LayerSelection = "all",
        tokens: TokenSelection = None,
    ) -> None:
        super().__init__(forward_func, layers)
        self.steps, self.start, self.tokens = steps, start, tokens

    def relevance(self, found: AttentionGradients) -> Tensor:
        chain = gradient_chain(found, self.tokens)
        return bounce(chain, start_distribution(chain, found.tokens, self.start), self.steps)
