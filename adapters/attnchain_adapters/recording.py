"""Reads attention maps off a running model: fused calls intercepted, eager weights by hook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from attnchain_interp import AttentionError


class MapRecorder(TorchFunctionMode):
    """While open, records the map of each watched module: {name: (batch, head, query, key)}, and by which route.

    A call of scaled-dot-product attention inside a watched module is let through unchanged and its map computed beside
    it, in float32 or better. Modules that compute attention themselves are recorded by `record`, called from a hook of
    the adapter. The mode belongs to the thread that opened it, and the hooks ignore other threads.

    Args:
        modules: the modules to watch, by name.

    Raises:
        AttentionError: dropout is active in the model's attention, or a module made two maps in one forward.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.maps: dict[str, Tensor] = {}
        self.routes: dict[str, str] = {}
        self._modules = modules
        self._inside: list[str] = []
        self._handles: list[RemovableHandle] = []
        self._thread = 0

    def __enter__(self) -> MapRecorder:
        self._thread = get_ident()
        for name, module in self._modules.items():
            self.keep(module.register_forward_pre_hook(lambda *_, name=name: self._enter_module(name)))
            self.keep(module.register_forward_hook(lambda *_: self._leave_module(), always_call=True))
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def keep(self, handle: RemovableHandle) -> None:
        """Removes this hook, too, when the recorder closes."""
        self._handles.append(handle)

    def record(self, name: str, maps: Tensor, route: str) -> None:
        """Records the map of a module; of other threads' forwards, nothing."""
        if get_ident() != self._thread:
            return
        if name in self.maps:
            raise AttentionError(f"module {name!r} computed attention twice in one forward; its maps cannot be told apart.")
        self.maps[name] = maps.detach()
        self.routes[name] = route

    def _enter_module(self, name: str) -> None:
        if get_ident() == self._thread:
            self._inside.append(name)

    def _leave_module(self) -> None:
        if get_ident() == self._thread and self._inside:
            self._inside.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self._inside:
            self.record(self._inside[-1], fused_map(*args, **kwargs), "sdpa")
        return func(*args, **kwargs)


def fused_map(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The probabilities (…, head, query, key) that `scaled_dot_product_attention` uses for the same arguments.

    Raises:
        AttentionError: dropout is active.
    """
    if dropout_p > 0:
        raise AttentionError(f"attention dropout {dropout_p} is active, so maps are random. Call model.eval() first.")
    wide = torch.promote_types(query.dtype, torch.float32)
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query.to(wide) * factor) @ key.to(wide).mT
    if is_causal:
        above = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        logits = logits.masked_fill(above, -torch.inf)
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        logits = logits.masked_fill(~attn_mask, -torch.inf) if is_bool else logits + attn_mask.to(wide)
    return logits.softmax(-1)
