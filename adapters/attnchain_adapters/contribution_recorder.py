"""Reads attention blocks off a running model: attention, and what the model makes of it up to the block's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from threading import get_ident
from types import TracebackType
from typing import Any, final

from torch import Tensor, nn
from torch._C import DisableTorchFunction

from attnchain_adapters.attention_recorder import AttentionRecorder, Taker, heads_of
from attnchain_adapters.contribution_trace import Trail
from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import Keeping


def recorder(model: nn.Module, layers: Mapping[str, Sequence[str]], wanted: Set[str], keeping: Taker) -> AttentionRecorder:
    """What hands over to `keeping` what it keeps: attention, or where it has a measure, whole attention blocks."""
    if isinstance(keeping, Keeping) and keeping.measure is not None:
        return BlockRecorder(model, layers, wanted, keeping)
    return AttentionRecorder(model, layers, wanted, keeping)


@final
class BlockRecorder(AttentionRecorder):
    """While open, follows the attention of each watched module, and hands its block over once the next one was followed so far
    that it is known what the first one's output is used for.

    Args:
        model, layers, wanted: as in `AttentionRecorder`.
        keeping: takes the blocks.

    Raises:
        AttentionError: as `AttentionRecorder`, and as `Trail.block`.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, Sequence[str]], wanted: Set[str], keeping: Keeping) -> None:
        super().__init__(model, layers, wanted, keeping)
        self._blocks = keeping
        self._trails: list[tuple[str, Trail]] = []  # the one before and the one that is followed now
        self._open: list[list[Tensor]] = []

    def __enter__(self) -> BlockRecorder:
        around = {".".join(parts[:k]) for parts in (name.split(".") for name in self._layers) for k in range(len(parts) + 1)}
        for module in (self._model.get_submodule(name) for name in around):
            self._handles.append(module.register_forward_pre_hook(self._given, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._done, always_call=True))
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        while kind is None and self._trails:
            self._settle()
        self._trails.clear()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        for _, trail in self._trails:
            trail.follow(func, args, kwargs or {}, result)
        if len(self._trails) > 1 and self._trails[-1][1].added:
            self._settle()
        return result

    def _given(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if get_ident() == self._thread:
            self._open.append([value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)])

    def _done(self, *_: object) -> None:
        if get_ident() == self._thread and self._open:
            self._open.pop()

    def _enter(self, module: nn.Module, name: str) -> None:
        super()._enter(module, name)
        if get_ident() == self._thread:
            layer = self._inside[-1][1]
            while len(self._trails) > 1:
                self._settle()
            if layer in self._wanted:
                where = f"{type(self._model).__name__}, layer {layer!r}"
                self._trails.append((layer, Trail(where, heads_of(module), self._open)))

    def _take(self, layer: str, attention: Tensor | Factors, route: str, sink: bool = False) -> None:
        trail = self._trails[-1][1]
        if trail.attention is not None:
            raise AttentionError(f"layer {layer!r} computed attention twice in one forward; its maps cannot be told apart.")
        self.routes[layer], trail.attention = route, attention

    def _settle(self) -> None:
        layer, trail = self._trails.pop(0)
        if trail.attention is not None:
            with DisableTorchFunction():
                self._blocks.take_block(layer, trail.block())
