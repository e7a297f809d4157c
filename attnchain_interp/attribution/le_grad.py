"""LeGrad: which tokens more attention would go to if the target's score rose."""

from __future__ import annotations

from typing import final

from torch import Tensor

from attnchain_interp.attribution.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.gradients import AttentionGradients


@final
class LeGrad(AttentionGradientAttribution):
    """ReLU(∂s/∂A_l), averaged over heads, queries and layers; of the patches of an image, else of every token.

    The variant of the final score: s is the model's own output for every layer. The paper reads a score of its own off each
    layer, through the model's head, which needs to be told where that head is; its last layer is the same as here. The map
    itself does not enter, only its gradient. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.

    Raises:
        AttentionError: on attribution, as `capture_gradients`.

    Source: Bousselham, Boggust, Chaybouti, Strobelt & Kuehne, *LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity*, ICCV 2025.
    """

    def relevance(self, found: AttentionGradients) -> Tensor:
        received = sum((gradients.relu().mean(1).sum(1) for _, gradients in found), found[0][1].new_zeros(()))
        queries = found.tokens.mask.sum(1, keepdim=True).to(received.device)
        return received / queries / len(found) * found.tokens.select(None).to(received.device)
