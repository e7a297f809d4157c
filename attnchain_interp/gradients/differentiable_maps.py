"""Attention maps as part of the graph that autograd builds, from the inputs to the output."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map

from attnchain_interp.capture import CaptureRequest, Reading, StoreCollector, uncompiled
from attnchain_interp.capture.reading import separated
from attnchain_interp.capture.recognition import required_adapter
from attnchain_interp.capture.source import module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import full_precision
from attnchain_interp.store import AttentionStore, LayerSelection

_Arguments = TypeVar("_Arguments")


@final
class MapGraph:
    """While open, gradients are enabled, and the maps that a model computes with are in the graph that leads to its output.

    Args:
        model: a model that an adapter recognises, compiled by `torch.compile` or not.

    Attributes:
        model, adapter: the model that is run, and the adapter that recognises it.
        maps: the map of each layer by name, in the order in which they ran.
        output: of the model, once it has run.

    Raises:
        AttentionError: no adapter recognises the model; `torch.inference_mode` is on, or was when the model was made.
    """

    def __init__(self, model: Any) -> None:
        self.model = uncompiled(model)
        self.adapter = required_adapter(
            self.model,
            "gradients need",
            "A callable that returns a store has no score to differentiate: use a method that reads attention alone, such as"
            " TokenRank.",
        )
        check_differentiable(module_of(self.model))
        self.maps: dict[str, Tensor] = {}
        self.output: Any = None

    def __enter__(self) -> MapGraph:
        self._enabled = torch.enable_grad()
        self._enabled.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._enabled.__exit__(*error)

    def arguments(
        self, inputs: tuple[Any, ...], reading: Reading | None, kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Reading, dict[str, Any]]:
        """Returns the model's positional arguments, the options of a capture, and the model's keyword arguments."""
        reading, named = separated(self.model, reading, kwargs)
        return without_inference(inputs), reading, without_inference(named)

    def add(self, name: str, attention: Tensor) -> Tensor:
        """Puts the map of a layer into the graph. This is the edit of the capture."""
        self.maps[name] = attention if attention.requires_grad else attention.detach().requires_grad_()
        return self.maps[name]

    def request(self, layers: LayerSelection, reading: Reading) -> CaptureRequest[AttentionStore]:
        """Asks an adapter for maps in the graph."""
        return CaptureRequest(StoreCollector("maps"), layers, reading, self.add, told=self.told)

    def told(self, output: Any) -> None:
        """Takes the output of the model."""
        self.output = output

    @full_precision()
    def gradients(self, score: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Returns the gradients of `score` (batch,) with respect to the maps of these layers."""
        several = derivatives(score, [self.maps[name] for name in names])
        gradients = {name: gradient for name, gradient in zip(names, several, strict=True) if gradient is not None}
        check_reached(names, gradients)
        return gradients if score.ndim == 1 else {name: several[:, 0] for name, several in gradients.items()}


def without_inference(arguments: _Arguments) -> _Arguments:
    """Returns arguments with copies of the tensors that were made in `torch.inference_mode`, which autograd refuses."""

    def made_so(each: Any) -> bool:
        return isinstance(each, Tensor) and each.is_inference()

    if not any(map(made_so, tree_leaves(arguments))):
        return arguments
    return tree_map(lambda each: each.clone() if made_so(each) else each, arguments)


def check_differentiable(module: nn.Module | None) -> None:
    """Checks that gradients can be computed, and through the weights of a module.

    Raises:
        AttentionError: `torch.inference_mode` is on, or was when the module was made.
    """
    if torch.is_inference_mode_enabled():
        raise AttentionError(
            "torch.inference_mode() is on, and there are no gradients in this mode.", "Use torch.no_grad() around this."
        )
    weights = () if module is None else module.named_parameters()
    made = [name for name, weight in weights if weight.is_inference()]
    if made:
        raise AttentionError(
            f"{made[0]} was made in torch.inference_mode(), and no gradient flows through such a weight.",
            "Load the model outside of it.",
        )


def no_gradient() -> AttentionError:
    """Returns the error of a score without a gradient."""
    return AttentionError(
        "the score does not depend on the inputs by a gradient: the model detaches its tensors, or is quantised.",
        "Use the model in floating point, and a target that depends on the inputs.",
    )


def derivatives(score: Tensor, tensors: Sequence[Tensor], tokens: tuple[Tensor, int] | None = None) -> Sequence[Tensor | None]:
    """Returns the gradients of the sum of `score` with respect to each tensor; None where it does not depend on the tensor.

    Several rows of scores (score, batch) have a gradient each, which are stacked, by one backward for all. One row has a plain
    backward, which every function knows. `tokens` are those of `SeveralScores`.

    Raises:
        AttentionError: the model computes attention again in the backward, for a checkpoint.
    """
    if not score.requires_grad:
        return [None] * len(tensors)
    try:
        if score.ndim == 1:
            return torch.autograd.grad(score.sum(), tensors, allow_unused=True)
        if len(score) == 1:
            alone = torch.autograd.grad(score.sum(), tensors, allow_unused=True)
            return [None if each is None else each[None] for each in alone]
        if tokens is not None and _passes(score, tokens[0], tensors):
            last, first = tokens
            (whole,) = torch.autograd.grad(score.sum(), last)
            places = torch.arange(len(score), device=last.device)
            apart = last.new_zeros(len(score), *last.shape)
            apart[places, 0, first + places] = whole[0, first + places]
            return torch.autograd.grad(last, tensors, apart, allow_unused=True, is_grads_batched=True)
        rows = torch.eye(len(score), dtype=score.dtype, device=score.device)
        return torch.autograd.grad(score.sum(1), tensors, rows, allow_unused=True, is_grads_batched=True)
    except RuntimeError as error:
        if "torch.utils.checkpoint" not in str(error):
            raise
        raise AttentionError(
            "the model calls torch.utils.checkpoint in its forward, so attention is computed again in the backward, where it"
            " is not watched.",
            "Turn gradient checkpointing off, or call the block itself in place of checkpoint(block, …).",
        ) from error


def _passes(score: Tensor, last: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Returns whether every path of the graph from the scores to the tensors leads through `last`."""
    ends = {get_gradient_edge(each).node for each in tensors}
    seen, ahead = {get_gradient_edge(last).node}, [get_gradient_edge(score).node]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        if node in ends:
            return False
        seen.add(node)
        ahead.extend(following for following, _ in node.next_functions if following is not None)
    return True


def check_reached(names: Sequence[str], reached: Container[str]) -> None:
    """Checks that the score depends on all layers."""
    cut = [name for name in names if name not in reached]
    if cut:
        raise AttentionError(
            f"no gradient flows from the score to {len(cut)} of {len(names)} attention layers (the first: {cut[0]!r}): the"
            " model detaches its tensors (a no_grad inside its forward, torch.utils.checkpoint with use_reentrant=True,"
            " quantised layers), or this output does not depend on them.",
            "Use the model in floating point and without checkpoints, or choose layers=… on which the output depends.",
        )
