"""LeGrad: which tokens more attention would have to go to for the target's score to rise, layer by layer."""

from __future__ import annotations

from typing import final

from torch import Tensor

from attnchain_interp.attribution.model_call import model_call
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.token_attribution import Call
from attnchain_interp.gradients.layer_gradients import capture_layer_gradients
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection


@final
class LeGrad(AttentionGradientAttribution):
    """ReLU(∂s_l/∂A_l), averaged over heads, queries and layers; of the patches of an image, else of every token.

    s_l is the target's score that what follows the last layer reads off layer l's own tokens. The map itself does not enter,
    only its gradient. One forward, and for each layer the model's head and one block backward. The paper scales the result to
    [0, 1] in the end, which is left to pictures here.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.

    Raises:
        AttentionError: on attribution, as `capture_layer_gradients`.

    Source: Bousselham, Boggust, Chaybouti, Strobelt & Kuehne, *LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity*, ICCV 2025.
    """

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        positional, named = model_call(self.forward_func, call.inputs, call.extra)
        return capture_layer_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def relevance(self, found: AttentionGradients) -> Tensor:
        received = sum((gradients.relu().mean(1).sum(1) for _, gradients in found), found[0][1].new_zeros(()))
        queries = found.tokens.mask.sum(1, keepdim=True).to(received.device)
        return received / queries / len(found) * found.tokens.select(None).to(received.device)
