"""From a model, its inputs and a target to the gradient of a score of each layer's own with respect to its attention map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnchain_interp.capture import Reading, plain_run
from attnchain_interp.capture.reading import separated
from attnchain_interp.capture.source import module_of, replaced_methods
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.gradients.target import Target, selected_score
from attnchain_interp.store import LayerSelection


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
    with MapGraph(model) as graph:
        module = module_of(graph.model)
        if module is None:
            raise AttentionError(
                f"the tokens of each layer are read off a module; got {type(graph.model).__name__}.", "Pass the module itself."
            )
        with LayerOutputs(module) as outputs:
            reading, kwargs = separated(graph.model, reading, kwargs)
            store = graph.adapter.capture(graph.model, inputs, kwargs, graph.request(layers, reading))
        own = graph.output

        def score(output: Any) -> Tensor:
            return selected_score(output, target, store.batch)

        expected, read = score(own).detach(), outputs.read(store.names, partial(graph.model, *inputs, **kwargs))
        again = score(next(read)).detach()
        if not torch.allclose(again, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            raise AttentionError(
                f"{type(graph.model).__name__} gives another score when its blocks return their earlier output and are not"
                " computed, so its score is read off more than its last layer's tokens.",
                INSTEAD,
            )
        gradients: dict[str, Tensor] = {}
        for name, output in zip(store.names, read, strict=True):
            gradients |= graph.gradients(score(output), [name])
        return AttentionGradients.named(store, gradients)


INSTEAD: Final = "Take the gradients of the model's own score for every layer: capture_gradients(model, …)."


@final
class LayerOutputs:
    """While open, remembers the output of every entry of a model's lists of modules.

    A layer of attention belongs to the innermost entry of an `nn.ModuleList` or `nn.Sequential` around it: its block. Forwards
    without gradients, by which an adapter only looks, do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._blocks = {
            f"{name}.{entry}" if name else entry: module
            for name, container in model.named_modules()
            if isinstance(container, nn.ModuleList | nn.Sequential)
            for entry, module in container.named_children()
        }
        self._outputs: dict[str, list[Any]] = {}

    def __enter__(self) -> LayerOutputs:
        thread = get_ident()

        def remember(name: str, output: Any) -> None:
            if get_ident() == thread and torch.is_grad_enabled():
                self._outputs.setdefault(name, []).append(output)

        self._handles: list[RemovableHandle] = []
        for name, block in self._blocks.items():
            self._handles.append(block.register_forward_hook(lambda _, __, output, name=name: remember(name, output)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def read(self, layers: Sequence[str], run: Callable[[], Any]) -> Iterator[Any]:
        """Yields the model's output with the tokens of each layer's block in place of the last block's.

        The first output is that with the last block's own tokens. The blocks are not computed again: each returns its earlier
        output.

        Args:
            layers: names of layers of attention.
            run: calls the model with the same arguments again, and returns its output.

        Raises:
            AttentionError: layers that are not in blocks of one list, blocks that run more than once, or tokens of another
                shape than the last block's.
        """
        blocks = [self._block(layer) for layer in layers]
        container = blocks[0].rpartition(".")[0]
        others = [block for block in blocks if block.rpartition(".")[0] != container]
        beside = [name for name in self._outputs if name.rpartition(".")[0] == container]
        twice = [name for name in beside if len(self._outputs[name]) > 1]
        if others or twice:
            why = f"{blocks[0]} and {others[0]} stand in different lists" if others else f"{twice[0]} runs more than once"
            raise AttentionError(f"{why}, so no layer's tokens can stand for the last one's.", INSTEAD)
        last = self._outputs[beside[-1]][0]
        for name in (beside[-1], *blocks):
            tokens = _tokens(self._outputs[name][0])
            if tokens.shape != _tokens(last).shape:
                raise AttentionError(
                    f"{name} outputs {tuple(tokens.shape)}, and the model's head reads {tuple(_tokens(last).shape)}.",
                    f"Choose layers=… like the last. {INSTEAD}",
                )
            given = {other: self._outputs[other][0] for other in beside}
            given[beside[-1]] = tokens if isinstance(last, Tensor) else type(last)((tokens, *last[1:]))
            giving = ((self._blocks[other], "forward", lambda *_, own=own, **__: own) for other, own in given.items())
            with replaced_methods(giving), plain_run(self._model):
                output = run()
            yield output

    def _block(self, layer: str) -> str:
        parts = layer.split(".")
        around = [name for k in range(1, len(parts)) if (name := ".".join(parts[:k])) in self._outputs]
        if not around or layer not in dict(self._model.named_modules()):
            raise AttentionError(
                f"layer {layer!r} is in no block of its own, an entry of an nn.ModuleList or nn.Sequential, so its output"
                " is not known.",
                INSTEAD,
            )
        return around[-1]


def _tokens(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
