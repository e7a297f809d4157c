"""LeGrad: how much the target's score rises when attention to a token rises, layer by layer."""

from __future__ import annotations

from typing import final

from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.gradients.layer_gradients import capture_layer_gradients
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection


@final
class LeGrad(AttentionGradientAttribution):
    """ReLU(∂s_l/∂A_l), averaged over heads, queries and layers, for the patches of an image, else for every token.

    s_l is the target's score of the tokens of layer l: the model's head reads them in place of the last layer's tokens. Only
    the gradient of the map enters, not the map itself. One forward, and for each layer the model's head and one block
    backward. The paper scales the result to [0, 1]; here pictures do that.

    Args:
        forward_func, layers: see `AttentionGradientAttribution`.

    Raises:
        AttentionError: on attribution, the errors of `capture_layer_gradients`.

    Source: Bousselham, Boggust, Chaybouti, Strobelt & Kuehne, *LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity*, ICCV 2025.
    """

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        positional, named = call.arguments(self.forward_func)
        return capture_layer_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def relevance(self, found: AttentionGradients) -> Tensor:
        received = sum((gradients.relu().mean(1).sum(1) for _, gradients in found), found[0][1].new_zeros(()))
        queries = found.tokens.mask.sum(1, keepdim=True).to(received.device)
        return received / queries / len(found) * found.tokens.select(None).to(received.device)
