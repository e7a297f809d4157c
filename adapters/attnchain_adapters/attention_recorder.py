"""Records the attention of a running model, whichever torch function computes it. Nothing of the model is replaced."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Set
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Protocol, cast

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import Edit

_ROWS: Final = 1024  # rows of a mask that are compared together
SOFTMAX: Final = (torch.softmax, Tensor.softmax, F.softmax)
_MULTI_HEAD: Final = inspect.signature(F.multi_head_attention_forward)


class Taker(Protocol):
    """Takes the attention of each layer: a `Collector`, or an object that gathers for one."""

    def take(self, name: str, attention: Tensor | Factors, sink: bool = False) -> None: ...


class AttentionRecorder(TorchFunctionMode):
    """While open, hands the attention of each watched module to `taker`, and notes by which route it came.

    Three routes, told apart by the torch function that a watched module calls:

    - "sdpa": `scaled_dot_product_attention`. It is let through unchanged and its arguments are handed over as `Factors`.
    - "softmax": a softmax over keys, whose result is the map, before any dropout.
    - "multi-head": `multi_head_attention_forward` (of `nn.MultiheadAttention`), asked for the weights of each head.

    With an edit, every route gives maps, and the module goes on with the edited ones. The edit gets maps in the graph that the
    model builds where gradients are enabled; the taker gets them detached. The mode belongs to the thread that opened it, and
    the hooks ignore other threads.

    Args:
        model: the model.
        layers: name of a module to watch → the names of the layers that its calls are, one after another: usually its own name
            alone; several where layers share one module. A module's last name stands for all later calls.
        wanted: the layers to record. Nothing is computed for the others.
        taker: takes their attention.
        edit: layer name and map (batch, head, query, key) → the map that the model goes on with.

    Raises:
        AttentionError: dropout is active in the model's attention; see also `taker.take`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, Sequence[str]],
        wanted: Set[str],
        taker: Taker,
        edit: Edit | None = None,
    ) -> None:
        super().__init__()
        self.routes: dict[str, str] = {}
        self._model, self._taker, self._wanted, self._edit = model, taker, wanted, edit
        self._layers = {name: several for name, several in layers.items() if wanted & set(several)}
        self._calls = dict.fromkeys(self._layers, 0)
        self._inside: list[tuple[nn.Module, str]] = []
        self._handles: list[RemovableHandle] = []
        self._thread = 0

    def __enter__(self) -> AttentionRecorder:
        self._thread = get_ident()
        for name in self._layers:
            module = self._model.get_submodule(name)
            self._handles.append(module.register_forward_pre_hook(lambda module, *_, name=name: self._enter(module, name)))
            self._handles.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def route(self) -> str:
        """Returns the routes by which attention came, as one string."""
        return ", ".join(sorted(set(self.routes.values())))

    def _enter(self, module: nn.Module, name: str) -> None:
        if get_ident() == self._thread:
            layers = self._layers[name]
            self._inside.append((module, layers[min(self._calls[name], len(layers) - 1)]))
            self._calls[name] += 1

    def _leave(self) -> None:
        if get_ident() == self._thread and self._inside:
            self._inside.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        module, layer = self._inside[-1] if self._inside else (None, "")
        if module is None or layer not in self._wanted:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._fused(layer, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(layer, *args, **kwargs)
        result = func(*args, **kwargs)
        over_keys = func in SOFTMAX and (args[1] if len(args) > 1 else kwargs.get("dim")) in (-1, result.ndim - 1)
        return self._softmax(module, layer, result) if over_keys else result

    def _fused(self, layer: str, *args: Any, **kwargs: Any) -> Tensor:
        factors = fused_factors(*args, **kwargs)
        if self._edit is None:
            self._take(layer, factors, "sdpa")
            return F.scaled_dot_product_attention(*args, **kwargs)
        maps = factors.maps()
        self._take(layer, maps, "sdpa")
        value: Tensor = args[2] if len(args) > 2 else kwargs["value"]
        value = value.repeat_interleave(maps.shape[1] // value.shape[1], 1)
        return self._edit(layer, maps).to(value.dtype) @ value

    def _softmax(self, module: nn.Module, layer: str, result: Tensor) -> Tensor:
        """The map is the whole result, but for a sink in the softmax, whose probability is its last column."""
        sink = getattr(module, "sinks", None) is not None
        maps = result[..., : result.shape[-1] - sink]
        if result.ndim == 3:  # heads folded into the batch
            heads = heads_of(module)
            maps = maps if maps.shape[0] % heads else maps.unflatten(0, (-1, heads))  # else a slice of the heads
        if maps.ndim != 4:
            return result
        self._take(layer, maps, "softmax", sink)
        if self._edit is None:
            return result
        edited = self._edit(layer, maps).to(result.dtype).reshape(*result.shape[:-1], -1)
        return torch.cat([edited, result[..., -1:]], -1) if sink else edited

    def _multi_head(self, layer: str, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        call = multi_head_call(*args, **kwargs)
        given = dict(call.arguments)
        if given["training"] and given["dropout_p"] > 0:
            raise AttentionError(f"attention dropout {given['dropout_p']} is active.", "Call model.eval() first.")
        call.arguments.update(need_weights=True, average_attn_weights=False)
        weights: Tensor
        output, weights = cast("tuple[Tensor, Tensor]", F.multi_head_attention_forward(*call.args, **call.kwargs))
        maps = weights if weights.ndim == 4 else weights[None]  # one example, without a batch
        self._take(layer, maps, "multi-head")
        if self._edit is not None:
            weights = self._edit(layer, maps).to(weights.dtype).reshape(weights.shape)
            output = _mixed(weights, given).reshape(output.shape)
        if not given["need_weights"]:
            return output, None
        return output, weights.mean(-3) if given["average_attn_weights"] else weights

    def _take(self, layer: str, attention: Tensor | Factors, route: str, sink: bool = False) -> None:
        self.routes[layer] = route
        with DisableTorchFunction():
            self._taker.take(layer, attention.detach(), sink)


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
    """Returns the factors of the map that `scaled_dot_product_attention` uses for the same arguments.

    Raises:
        AttentionError: dropout is active.
    """
    if dropout_p > 0:
        raise AttentionError(f"attention dropout {dropout_p} is active, so maps are random.", "Call model.eval() first.")
    causal_keys = None if attn_mask is None or is_causal else _causal_with_padding(attn_mask)
    mask, is_causal = (attn_mask, is_causal) if causal_keys is None else (causal_keys, True)
    return Factors(query, key, scale, mask, is_causal)


def multi_head_call(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
    """Returns the arguments of a call of `multi_head_attention_forward`, by name."""
    call = _MULTI_HEAD.bind(*args, **kwargs)
    call.apply_defaults()
    return call


def _causal_with_padding(mask: Tensor) -> Tensor | None:
    """The keys (batch, 1, 1, token) of a boolean mask that is causal attention to these keys; None for another mask.

    Rows of padding may hold anything: no walk reaches them.
    """
    if mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2] != mask.shape[3]:
        return None
    keys, places = mask.diagonal(dim1=-2, dim2=-1)[:, :, None], torch.arange(mask.shape[-1], device=mask.device)
    for rows in places.split(_ROWS):
        expected = keys & (places <= rows[:, None])
        if bool(((mask[:, :, rows] ^ expected) & keys.mT[:, :, rows]).any()):
            return None
    return keys.clone()


def heads_of(module: nn.Module) -> int:
    """Returns the number of heads of a module; one where the module does not say."""
    for name in ("num_heads", "n_heads", "n_head", "num_attention_heads", "heads"):
        if isinstance(heads := getattr(module, name, None), int):
            return heads
    return 1


def _mixed(weights: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The output (query, [batch,] width) of `multi_head_attention_forward` for these weights ([batch,] head, query, key)."""
    return multi_head_output(weights @ multi_head_values(given), given)


def multi_head_values(given: Mapping[str, Any]) -> Tensor:
    """Returns the values ([batch,] head, key, dim) of a call of `multi_head_attention_forward` with these arguments."""
    value: Tensor = given["value"]
    width, heads = given["embed_dim_to_check"], given["num_heads"]
    bias = given["in_proj_bias"]
    bias = None if bias is None else bias[2 * width :]
    weight = given["v_proj_weight"] if given["use_separate_proj_weight"] else given["in_proj_weight"][2 * width :]
    return F.linear(value, weight, bias).unflatten(-1, (heads, -1)).movedim(0, -2)


def multi_head_output(heads: Tensor, given: Mapping[str, Any]) -> Tensor:
    """Returns the projection (query, [batch,] width) of the output of the heads ([batch,] head, query, dim)."""
    return F.linear(heads.movedim(-2, 0).flatten(-2), given["out_proj_weight"], given["out_proj_bias"])
