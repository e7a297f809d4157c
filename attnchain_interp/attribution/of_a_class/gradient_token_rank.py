"""Gradient TokenRank: the stationary distribution of the walk that follows attention where it speaks for the target."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_a_class.gradient_chain import gradient_chain
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import last_state
from attnchain_interp.store.tokens import TokenSelection


@final
class GradientTokenRank(AttentionGradientAttribution):
    """The stationary distribution of P = W with rows divided by their sums, W = Σ_l mean_h A ⊙ ReLU(∇A).

    π = π (damping · P + (1 − damping) · 1 vᵀ): as `TokenRank`, of a walk that takes a transition the more often the more it
    raises the target's score. Rows of W that are zero keep the plain attention of their token. Scores of an example sum to
    one. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        tokens: the states, as in `TokenLayout.select`; None means the patches of an image, else everything but padding.
        damping: probability of following the chain rather than jumping; when None 0.5 if jumps lead to the last state, else
            0.99.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land. When None uniform over the states; in
            a decoder the last state, as of `TokenRank` (docs/text-defaults.md).

    Raises:
        AttentionError: on attribution, as `stationary` and `capture_gradients`.

    Source: this library; the chain of Erel et al. 2025 with the weights of Chefer et al. 2021.
    """

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        tokens: TokenSelection = None,
        damping: float | None = None,
        personalization: Tensor | None = None,
    ) -> None:
        super().__init__(forward_func, layers)
        self.tokens, self.damping, self.personalization = tokens, damping, personalization

    def relevance(self, found: AttentionGradients) -> Tensor:
        chain, last = gradient_chain(found, self.tokens), self.personalization is None and found.store.causal
        damping = (0.5 if last else 0.99) if self.damping is None else self.damping
        return stationary(chain, damping, last_state(chain) if last else self.personalization)
