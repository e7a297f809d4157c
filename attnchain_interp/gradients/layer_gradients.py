"""From a model, its inputs and a target to the gradient of a score of each layer's own with respect to its attention map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnchain_interp.capture.collectors import Keeping
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.block_replay import INSTEAD, LayerOutputs
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection

if TYPE_CHECKING:
    from attnchain_interp.gradients.target import Target


def capture_layer_gradients(
    model: Any, *inputs: Any, target: Target = None, layers: LayerSelection = "all", **kwargs: Any
) -> AttentionGradients:
    """The maps A_l of one forward pass and ∂s_l/∂A_l, where s_l is the target's score read off layer l's own tokens.

    What a model computes after its last layer (a norm, a pooling, a classifier) is computed of the tokens that the block of
    layer l puts out, in place of the last block's. Only what lies between a map and the end of its block is differentiated; of
    the last layer the gradient is that of `capture_gradients`. One forward, and for each layer what surrounds the blocks and
    the backward of one block.

    Args:
        model: a model that an adapter recognises, whose blocks are entries of an `nn.ModuleList` or `nn.Sequential`.
        inputs, target, layers, kwargs: as in `capture_gradients`.

    Raises:
        AttentionError: as `capture_gradients`; layers that are not in blocks of one list, run once each and put out tokens of
            one shape; a model whose output is not computed from the last block's tokens alone.
    """
    from attnchain_interp.gradients.target import selected_score  # captum loads pyplot

    with MapGraph(model) as graph:
        if not isinstance(graph.model, nn.Module):
            raise AttentionError(f"the tokens of each layer are read off a module; got {type(graph.model).__name__}.")
        with LayerOutputs(graph.model) as outputs:
            store = graph.adapter.capture(graph.model, inputs, layers, Keeping("maps", edit=graph.add), **kwargs)
        assert isinstance(store, AttentionStore), "maps are kept"  # noqa: S101
        own = graph.output

        def score(output: Any) -> Tensor:
            return selected_score(output, target, store.batch)

        expected, read = score(own).detach(), outputs.read(store.names)
        again = score(next(read)).detach()
        if not torch.allclose(again, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            raise AttentionError(
                f"{type(graph.model).__name__} gives another score when its blocks give what they gave and are not computed,"
                f" so its score is read off more than its last layer's tokens. {INSTEAD}"
            )
        gradients: dict[str, Tensor] = {}
        for name, output in zip(store.names, read, strict=True):
            gradients |= graph.gradients(score(output), [name])
        return AttentionGradients.named(store, gradients)
