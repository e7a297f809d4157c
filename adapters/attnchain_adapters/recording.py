"""Reads attention maps off a running model: fused calls intercepted, eager weights by hook."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from attnchain_interp import AttentionError, Factors, Keeping

_ROWS: Final = 1024  # of a mask that are looked at together


class AttentionRecorder(TorchFunctionMode):
    """While open, hands the attention of each watched module to `keeping`, and notes by which route it came.

    A call of scaled-dot-product attention inside a watched module is let through unchanged and its `Factors` handed over.
    Modules that compute attention themselves hand over maps by `record`, called from a hook of the adapter. The mode
    belongs to the thread that opened it, and the hooks ignore other threads.

    Args:
        modules: the modules to watch, by name.
        keeping: what is done with their attention.

    Raises:
        AttentionError: dropout is active in the model's attention, or a module attended twice in one forward.
    """

    def __init__(self, modules: Mapping[str, nn.Module], keeping: Keeping) -> None:
        super().__init__()
        self.routes: dict[str, str] = {}
        self._keeping = keeping
        self._modules = modules
        self._inside: list[str] = []
        self._handles: list[RemovableHandle] = []
        self._thread = 0

    def __enter__(self) -> AttentionRecorder:
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

    def record(self, name: str, attention: Tensor | Factors, route: str) -> None:
        """Hands over the attention of a module; of other threads' forwards, nothing."""
        if get_ident() != self._thread:
            return
        if name in self.routes:
            raise AttentionError(f"module {name!r} computed attention twice in one forward; its maps cannot be told apart.")
        self.routes[name] = route
        with DisableTorchFunction():
            self._keeping.take(name, attention if isinstance(attention, Factors) else attention.detach())

    @property
    def route(self) -> str:
        """The routes by which attention came, as one string."""
        return ", ".join(sorted(set(self.routes.values())))

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
            self.record(self._inside[-1], fused_factors(*args, **kwargs), "sdpa")
        return func(*args, **kwargs)


def fused_factors(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Factors:
    """The factors of the map that `scaled_dot_product_attention` uses for the same arguments.

    Raises:
        AttentionError: dropout is active, or queries and keys of different tokens.
    """
    if dropout_p > 0:
        raise AttentionError(f"attention dropout {dropout_p} is active, so maps are random. Call model.eval() first.")
    causal_keys = None if attn_mask is None or is_causal else _causal_with_padding(attn_mask)
    mask, is_causal = (attn_mask, is_causal) if causal_keys is None else (causal_keys, True)
    return Factors(_own(query), _own(key), scale, mask, is_causal)


def _own(tensor: Tensor) -> Tensor:
    """The tensor without the rest of the storage that it is a view of (queries of a joint projection)."""
    tensor = tensor.detach()
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def _causal_with_padding(mask: Tensor) -> Tensor | None:
    """The keys (batch, 1, 1, token) that a boolean mask allows, where it is causal attention to these and nothing else.

    Rows of tokens that are no keys (padding) may hold anything: no walk comes to them.
    """
    if mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2] != mask.shape[3]:
        return None
    keys, places = mask.diagonal(dim1=-2, dim2=-1)[:, :, None], torch.arange(mask.shape[-1], device=mask.device)
    for rows in places.split(_ROWS):
        expected = keys & (places <= rows[:, None])
        if bool(((mask[:, :, rows] ^ expected) & keys.mT[:, :, rows]).any()):
            return None
    return keys.clone()
