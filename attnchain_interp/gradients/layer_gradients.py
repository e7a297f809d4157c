"""From a model, its inputs and a target to the gradient of a score of each layer's own with respect to its attention map."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from attnchain_interp.capture import Reading
from attnchain_interp.capture.source import module_of
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.block_replay import LayerOutputs
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.gradients.target import Target, plain_target, position_read, selected_score
from attnchain_interp.store import LayerSelection


@in_turn
def capture_layer_gradients(
    model: Any,
    *inputs: Any,
    target: Target = None,
    layers: LayerSelection = "all",
    reading: Reading | None = None,
    **kwargs: Any,
) -> AttentionGradients:
    """Captures the maps A_l of one forward pass and ∂s_l/∂A_l, where s_l is the target's score read off layer l's tokens.

    The model's head (a norm, a pooling, a classifier) is applied to the tokens that the block of layer l outputs, in place of
    the last block's. Only the path from a map to the end of its block is differentiated. The gradient of the last layer equals
    that of `capture_gradients`. The cost is one forward, and for each layer the head and the backward of one block.

    Args:
        model: a model that an adapter recognises, whose blocks are entries of an `nn.ModuleList` or `nn.Sequential`.
        inputs, kwargs: the arguments of the model.
        target, layers, reading: See `capture_gradients`.

    Raises:
        AttentionError: see `capture_gradients`; layers that are not in blocks of one list, each run once with tokens
            of one shape; a model whose output is not computed from the last block's tokens alone.
    """
    target = plain_target(target)
    with MapGraph(model) as graph:
        module = module_of(graph.model)
        if module is None:
            raise AttentionError(
                f"the tokens of each layer are read off a module; got {type(graph.model).__name__}.",
                "Pass the module itself, which an nnsight model holds as model._module.",
            )
        with LayerOutputs(module) as outputs:
            inputs, reading, kwargs = graph.arguments(inputs, reading, kwargs)
            store = graph.adapter.capture(graph.model, inputs, kwargs, graph.request(layers, reading))
        run = partial(graph.model, *inputs, **kwargs)

        def score(output: Any) -> Tensor:
            return selected_score(output, target, store.batch)

        outputs.direction(store.names, lambda: score(run()), score(graph.output).detach())  # checks what the head reads
        gradients: dict[str, Tensor] = {}
        for name, output in zip(store.names, outputs.read(store.names, run), strict=True):
            gradients |= graph.gradients(score(output), [name])
        position = position_read(graph.output, target, store.tokens)
        return replace(AttentionGradients.named(store, gradients), position=position)
