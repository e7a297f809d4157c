"""Expected visits: how often a walk along the evidence for a target comes to each token before it ends."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.attribution.of_a_class.gradient_chain import evidence
from attnchain_interp.chain.absorption import expected_visits
from attnchain_interp.chain.chain import Chain, check_damping
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, class_or_uniform


@final
class ExpectedVisits(AttentionGradientAttribution):
    """e (I − Q)⁻¹ from a start token e, where Q = damping · W / (its greatest row sum) and W = ReLU(Σ_l mean_h A ⊙ ∇A).

    W is the evidence: how much attention from one token to another raises the target's score, over all heads and layers, which
    are summed before the ReLU, so that one may outweigh what another says. The token with the most evidence passes the walk on
    with probability `damping`; from the others it ends with the probability that their evidence falls short by. A token scores
    by how much evidence leads to it, directly and over others. The start's own score holds the 1 of the walk's beginning. One
    forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        start: as in `GradientAttention`: None means "uniform" in a decoder.
        damping: probability that the walk goes on at the token with the most evidence. At 1 there may be no finite answer: in
            a causal model the first token attends to itself alone.

    Raises:
        AttentionError: on attribution, for a start that does not exist, walks that do not end (damping 1), and as
            `capture_gradients`; at once, for a damping outside [0, 1].

    Source: this library; the fundamental matrix of Kemeny & Snell, *Finite Markov Chains*, 1960.
    """

    def __init__(
        self,
        forward_func: Any = None,
        start: Start | None = None,
        layers: LayerSelection = "all",
        damping: float = 0.99,
    ) -> None:
        check_damping(damping)
        super().__init__(forward_func, layers)
        self.start, self.damping = start, damping

    def relevance(self, found: AttentionGradients) -> Tensor:
        weights = evidence(found, "layers")
        greatest = weights.sum(-1).amax(-1)[:, None, None]
        transitions = self.damping * weights / greatest.clamp_min(torch.finfo(weights.dtype).tiny)
        states = found.tokens.mask.to(weights.device)
        start = class_or_uniform(found.tokens, self.start)
        return expected_visits(Chain(transitions, states, absorbing=True, check=False), start_row(found, start))
