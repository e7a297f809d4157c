"""Gradient rollout: rollout whose heads are weighted, entry by entry, by the gradient of the target."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, class_or_uniform


@final
class GradientRollout(AttentionGradientAttribution):
    """The row of a start token in Â_L · · · Â_1, where Â is ReLU(mean_h(A ⊙ ∇A)) + I with rows that sum to one.

    Heads are averaged with their signs before the ReLU. Because the rows are normalised after the identity was added, the
    result depends on the scale of the score: the steeper the gradient, the further the walk moves. Scores of an example sum
    to one. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        start: as in `GradientAttention`.

    Raises:
        AttentionError: on attribution, for a start that does not exist, and as `capture_gradients`.

    Source: Gildenblat, *Exploring Explainability for Vision Transformers*, 2020 (`vit-explain`, "gradient attention rollout"),
    after Abnar & Zuidema 2020; every example of a batch, gradients in the order of the layers, nothing discarded.
    """

    def __init__(self, forward_func: Any = None, start: Start | None = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func, layers)
        self.start = start

    def relevance(self, found: AttentionGradients) -> Tensor:
        row = start_row(found, class_or_uniform(found.tokens, self.start))[:, None]
        for maps, gradients in reversed(found):
            evidence = (maps * gradients).mean(1).relu()
            row = row / (1 + evidence.sum(-1))[:, None]
            row = row + row @ evidence
        return row[:, 0]
