"""Sees the attention of a module beside that of a model inside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import nn

from attnchain_adapters.recording.attention_recorder import AttentionRecorder


@final
class OutsideRecorder(AttentionRecorder):
    """While open, notes each module that attends while the model inside is not running, in `strangers`.

    Args:
        model: the module around.
        inside: says whether the model inside is running.
    """

    def __init__(self, model: nn.Module, inside: Callable[[], bool]) -> None:
        super().__init__(model, {}, frozenset(), None)
        self._inside = inside

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._inside():
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)
