"""Reads attention blocks off a running model: attention, and what the model makes of it up to the block's output."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from types import TracebackType
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction

from attnchain_adapters.checks import takes_hooks
from attnchain_adapters.contributions.trace import ContributionTrace
from attnchain_adapters.recording.attention_calls import AttentionCall
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.torch_operators import function_of
from attnchain_interp import AttentionError
from attnchain_interp.capture import AttentionBlock, BlockCollector, of_this_thread

_NO_NORMS: Final = (nn.Identity, nn.Dropout, nn.GELU, nn.SiLU, nn.ReLU)
_RECENT: Final = 4  # calls of modules whose inputs are remembered


@final
class ContributionRecorder(AttentionRecorder):
    """While open, traces the output of each watched attention module through its block, and hands the block over.

    A block is handed over once the trace of the next one shows where the first one's output was added.

    Args:
        model, layers, wanted, beside, batch: See `AttentionRecorder`.
        collector: takes the blocks.

    Raises:
        AttentionError: as `AttentionRecorder`, and as `ContributionTrace.block`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, Sequence[str]],
        wanted: Set[str],
        collector: BlockCollector[Any],
        beside: Iterable[str] = (),
        batch: int | None = None,
    ) -> None:
        super().__init__(model, layers, wanted, collector, None, beside, batch)
        self._blocks = collector
        self._traces: list[tuple[str, ContributionTrace]] = []  # the one before and the one that is followed now
        self._open: list[list[Tensor]] = []
        self._returned: deque[tuple[Tensor, list[Tensor]]] = deque(maxlen=_RECENT)
        self._settling = False
        self._parts = tuple(f"{name}." for name in layers)

    def __enter__(self) -> ContributionRecorder:
        around = {".".join(parts[:k]) for parts in (name.split(".") for name in self._layers) for k in range(len(parts) + 1)}
        for module in (self._model.get_submodule(name) for name in around):
            self._handles.append(module.register_forward_pre_hook(of_this_thread(self._given), with_kwargs=True))
            self._handles.append(module.register_forward_hook(of_this_thread(self._done), always_call=True))
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        while kind is None and self._traces:
            self._settle()
        self._traces.clear()
        self._returned.clear()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._settling:
            return func(*args, **(kwargs or {}))
        result = super().__torch_function__(func, types, args, kwargs)
        for _, trace in self._traces:
            trace.follow(function_of(func), args, kwargs or {}, result)
        if len(self._traces) > 1 and self._traces[-1][1].added:
            self._settle()
        return result

    def _follows(self, name: str, module: nn.Module) -> bool:
        """Also calls of modules whose result may be given to a block: of norms, and not of parts of a layer."""
        before = not name.startswith(self._parts) and not isinstance(module, _NO_NORMS)
        return super()._follows(name, module) or (before and takes_hooks(module))

    def _given(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        for tensor in given:  # a norm before the block: its input is the block's, too
            sources = (before for output, before in self._returned if output is tensor)
            given.extend(each for before in sources for each in before if not any(each is known for known in given))
        self._open.append(given)

    def _done(self, *_: object) -> None:
        if self._open:
            self._open.pop()

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._enter(name, module, args, kwargs)
        if (layer := self._running[-1][2]) is not None:
            while len(self._traces) > 1:
                self._settle()
            if layer in self._wanted and self._blocks.wants_blocks:
                where = f"{type(self._model).__name__}, layer {layer!r}"
                self._traces.append((layer, ContributionTrace(where, self._open)))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        super()._leave(module, args, kwargs, output)
        if isinstance(output, Tensor):
            self._returned.append((output, [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]))

    def _take(self, layer: str, call: AttentionCall, result: Any) -> Any:
        if not self._blocks.wants_blocks:
            while self._traces:
                self._settle()
            return super()._take(layer, call, result)
        trace = self._traces[-1][1]
        if trace.begun:
            raise AttentionError(
                f"layer {layer!r} computed attention twice in one forward; its maps cannot be told apart.",
                "Choose other layers by layers=….",
            )
        trace.begin(call, result)
        return result

    @torch.no_grad()
    def _settle(self) -> None:
        layer, trace = self._traces.pop(0)
        if not trace.begun:
            return
        block: AttentionBlock | AttentionError
        self._settling = True  # quantised weights are tensors with functions of their own, which stay on
        try:
            block = trace.block()
        except AttentionError as refusal:
            block = refusal
        finally:
            self._settling = False
        with DisableTorchFunction():
            self._blocks.take_block(layer, block, trace.shown)
