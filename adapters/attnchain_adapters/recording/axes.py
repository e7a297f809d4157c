"""Which axes of a map are examples, heads and tokens, by what its values depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from attnchain_adapters.recording.attention_calls import AttentionCall
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_interp import AttentionError
from attnchain_interp.capture import of_this_thread, plain_run

_CHANNELS_LAST: Final = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RMSNorm)
_CHANNELS_AFTER_BATCH: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)


def check_axes(
    model: nn.Module,
    run: Callable[[], Any],
    layers: Mapping[str, Sequence[str]],
    wanted: Set[str],
    batch: int,
) -> None:
    """Checks that the axes of maps are examples, heads, queries and keys, and keys are tokens, where sizes do not tell.

    One more forward looks on which places of the projections before it each value depends. A key depends on few places, a
    channel on all. The heads of an example depend on the same places, and two examples on none in common.

    Args:
        model, run: the model, and what runs it.
        layers, wanted, batch: see `AttentionRecorder`.

    Raises:
        AttentionError: a layer's map is over channels, its heads hold other tokens, or heads come before examples.
    """
    with torch.inference_mode(False), torch.enable_grad(), plain_run(model), _Axes(model, layers, wanted, batch):
        try:
            run()
        except RuntimeError as error:
            if "out=" not in str(error):
                raise
            raise AttentionError(
                f"{type(model).__name__} writes results into given tensors (out=…), which gradients do not follow, so what the"
                f" axes of {', '.join(sorted(wanted))} are cannot be told.",
                "Leave out=… out, or pass the maps: AttentionStore.from_maps(your_maps, tokens=…).",
            ) from error


def check_replaced(
    framework: str,
    model: nn.Module,
    run: Callable[[], Any],
    layers: Mapping[str, Sequence[str]],
    wanted: Set[str],
    batch: int,
) -> None:
    """Checks the axes of the layers whose modules are neither the framework's nor torch's, as a user puts them into a model.

    Args:
        framework: the package of the model.
        model, run, layers, wanted, batch: see `check_axes`.

    Raises:
        AttentionError: see `check_axes`.
    """
    known = (framework, "torch")
    replaced = [names for path, names in layers.items() if _package(model.get_submodule(path)) not in known]
    if meant := {name for names in replaced for name in names if name in wanted}:
        check_axes(model, run, layers, meant, batch)


def _package(module: nn.Module) -> str:
    return type(module).__module__.split(".")[0]


@final
class _Axes(AttentionRecorder):
    """Begins a graph at the output of each projection, norm and embedding, and asks it at each use of attention."""

    def __init__(self, model: nn.Module, layers: Mapping[str, Sequence[str]], wanted: Set[str], batch: int) -> None:
        super().__init__(model, layers, wanted, None, batch=batch)
        self._leaves: list[tuple[Tensor, int]] = []  # with the axis of their channels

    def __enter__(self) -> _Axes:
        for module in self._model.modules():
            kind = type(module)
            if kind in _CHANNELS_LAST:
                self._handles.append(module.register_forward_hook(of_this_thread(partial(self._begin, -1))))
            elif kind in _CHANNELS_AFTER_BATCH:
                self._handles.append(module.register_forward_hook(of_this_thread(partial(self._begin, 1))))
        super().__enter__()
        return self

    def _begin(self, axis: int, _: nn.Module, given: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.ndim < 3:
            return output
        leaf = output.detach().clone().requires_grad_()
        self._leaves.append((leaf, axis))
        return leaf.clone()

    def _take(self, layer: str, call: AttentionCall, result: Any) -> Any:
        values = call.values
        if call.route == "multi-head" or not values.requires_grad:
            return result
        places = partial(self._places, values)
        every = places((slice(0, 1),))
        key, channel = places((slice(0, 1), slice(None), 0)), places((slice(0, 1), slice(None), slice(None), 0))
        if values.shape[-2] > 1 < values.shape[-1] and int(channel.sum()) < int(key.sum()) == int(every.sum()):
            raise AttentionError(
                f"layer {layer!r} mixes the {values.shape[-2]} channels of its heads, and its map is not over tokens.",
                "Name other layers: layers=[…].",
            )
        if values.shape[1] > 1 and int(places((slice(0, 1), 0)).sum()) < int(every.sum()):
            raise AttentionError(
                f"the {values.shape[1]} heads of layer {layer!r} hold other tokens each: rows, windows or examples.",
                "Pass one example at a time, or name other layers: layers=[…].",
            )
        if len(values) > 1 and bool((every & places((slice(1, None),))).any()):
            raise AttentionError(
                f"layer {layer!r} mixes examples and heads: which of its axes comes first is not known.",
                "Pass one example at a time.",
            )
        return result

    def _places(self, values: Tensor, part: tuple[Any, ...]) -> Tensor:
        """Marks the places, in the projections before, on which a part of the values depends."""
        leaves = [leaf for leaf, _ in self._leaves]
        found = torch.autograd.grad(values[part].sum(), leaves, retain_graph=True, allow_unused=True) if leaves else ()
        touched = [
            gradient.movedim(axis, -1).ne(0).any(-1).flatten()
            for gradient, (_, axis) in zip(found, self._leaves, strict=True)
            if gradient is not None
        ]
        nowhere = torch.zeros(1, dtype=torch.bool, device=values.device)  # values of learnt weights are of no projection
        return torch.cat([nowhere, *touched])
