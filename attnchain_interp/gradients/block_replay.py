"""Runs the head of a model on tokens of other blocks, or on tokens that require a gradient, without computing the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnchain_interp.capture import plain_run
from attnchain_interp.capture.threads import of_this_thread, replaced_methods
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import derivatives

INSTEAD: Final = "Take the gradients of the model's own score for every layer: capture_gradients(model, …)."


@final
class LayerOutputs:
    """While open, remembers the output of every entry of a model's lists of modules.

    A layer of attention belongs to the innermost entry of an `nn.ModuleList` or `nn.Sequential` around it: its block.

    Args:
        model: the model.
        gradients: remember forwards with gradients alone, since an adapter may look at a model by one without. False: remember
            forwards without gradients.
    """

    def __init__(self, model: nn.Module, gradients: bool = True) -> None:
        self._model, self._gradients = model, gradients
        self._blocks = {
            f"{name}.{entry}" if name else entry: module
            for name, container in model.named_modules()
            if isinstance(container, nn.ModuleList | nn.Sequential)
            for entry, module in container.named_children()
        }
        self._outputs: dict[str, list[Any]] = {}

    def __enter__(self) -> LayerOutputs:
        def remember(name: str, output: Any) -> None:
            if torch.is_grad_enabled() == self._gradients:
                self._outputs.setdefault(name, []).append(output)

        self._handles: list[RemovableHandle] = []
        for name, block in self._blocks.items():
            hook = of_this_thread(lambda _, __, output, name=name: remember(name, output))
            self._handles.append(block.register_forward_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def read(self, layers: Sequence[str], run: Callable[[], Any]) -> Iterator[Any]:
        """Yields the model's output with the tokens of each layer's block in place of the last block's.

        The blocks are not computed again: each returns its earlier output.

        Args:
            layers: names of layers of attention.
            run: calls the model with the same arguments again, and returns its output.

        Raises:
            AttentionError: layers that are not in blocks of one list, blocks that run more than once, or tokens of another
                shape than the last block's.
        """
        blocks, ran = self._stack(layers)
        given = {name: self._outputs[name][0] for name in ran}
        expected = _tokens(given[ran[-1]]).shape
        for name in blocks:
            tokens = _tokens(given[name])
            if tokens.shape != expected:
                raise AttentionError(
                    f"{name} outputs {tuple(tokens.shape)}, and the model's head reads {tuple(expected)}.",
                    f"Choose layers=… like the last. {INSTEAD}",
                )
            yield self._run({**given, ran[-1]: _holding(tokens, given[ran[-1]])}, run)

    def direction(self, layers: Sequence[str], score: Callable[[], Tensor], expected: Tensor) -> Tensor:
        """Returns the gradient of a score by the tokens of the last block: (batch, token, width). No block is differentiated.

        Args:
            layers: names of layers of attention.
            score: calls the model with the same arguments again, and returns the scores (batch,).
            expected: the scores of the first run.

        Raises:
            AttentionError: see `read`; scores that change when blocks return their earlier output, that read the output of
                other blocks than the last one, or that do not depend on its output.
        """
        ran = self._stack(layers)[1]
        leaves = [_tokens(self._outputs[name][0]).detach().requires_grad_() for name in ran]
        with torch.enable_grad():
            given = {
                name: _holding(leaf.view_as(leaf), self._outputs[name][0]) for name, leaf in zip(ran, leaves, strict=True)
            }
            found = self._run(given, score)
            gradients = derivatives(found, leaves)
        tolerance = max(1e-3, 8 * torch.finfo(found.dtype).eps)
        away, others = (found - expected).abs().max(), gradients[:-1]
        if not away <= tolerance * expected.abs().max() or any(each is not None for each in others):
            raise AttentionError(
                f"the score of {type(self._model).__name__} is read off more than the tokens that its last block outputs.",
                INSTEAD,
            )
        if gradients[-1] is None:
            raise AttentionError("the score does not depend on the tokens of the last block.", "Choose another target.")
        return gradients[-1]

    def _run(self, given: Mapping[str, Any], run: Callable[[], Any]) -> Any:
        """Runs the model while blocks return what is given."""
        giving = ((self._blocks[name], "forward", lambda *_, own=own, **__: own) for name, own in given.items())
        with replaced_methods(giving), plain_run(self._model):
            return run()

    def _stack(self, layers: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the block of each layer, and all blocks of their list in the order in which they ran."""
        blocks = [self._block(layer) for layer in layers]
        container = blocks[0].rpartition(".")[0]
        others = [block for block in blocks if block.rpartition(".")[0] != container]
        ran = [name for name in self._outputs if name.rpartition(".")[0] == container]
        twice = [name for name in ran if len(self._outputs[name]) > 1]
        if others or twice:
            why = f"{blocks[0]} and {others[0]} stand in different lists" if others else f"{twice[0]} runs more than once"
            raise AttentionError(f"{why}, so no layer's tokens can stand for the last one's.", INSTEAD)
        return blocks, ran

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


def _holding(tokens: Tensor, output: Any) -> Any:
    """Returns an output of a block with other tokens."""
    return tokens if isinstance(output, Tensor) else type(output)((tokens, *output[1:]))
