"""GMAR: rollout in which the heads that the target depends on count more."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_attention.rollout import rolled_out
from attnchain_interp.chain.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start


@final
class GMAR(AttentionGradientAttribution):
    """Rollout of A_l = Σ_h w_h A_h with weights w_h = ‖∇A_h‖ / Σ_g ‖∇A_g‖ within each layer.

    The row of a start token in Â_L · · · Â_1, Â = (A + I) / 2. The target enters through the heads' weights alone, and without
    a sign. Scores of an example sum to one. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        norm: "l1", the sum of the gradient's absolute values, or "l2", the root of the sum of their squares.
        start: as in `MultiBounce`.

    Raises:
        AttentionError: on attribution, for a start that does not exist, and as `capture_gradients`; at once, for another norm.

    Source: Jo, Jang & Park, *GMAR: Gradient-Driven Multi-Head Attention Rollout for Vision Transformer Interpretability*,
    2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        norm: Literal["l1", "l2"] = "l1",
        start: Start | None = None,
        layers: LayerSelection = "all",
    ) -> None:
        if norm not in ("l1", "l2"):
            raise AttentionError(f'norm={norm!r} is unknown; use "l1" or "l2".')
        super().__init__(forward_func, layers)
        self.norm, self.start = norm, start

    def relevance(self, found: AttentionGradients) -> Tensor:
        def weighted(layer: int) -> Chain:
            _, gradients = found[layer]
            norms = torch.linalg.vector_norm(gradients, int(self.norm[1]), (-2, -1))
            return found.store.chain(layer, heads=lambda _: norms, tokens="all")

        return rolled_out(map(weighted, reversed(range(len(found)))), found.tokens, self.start)
