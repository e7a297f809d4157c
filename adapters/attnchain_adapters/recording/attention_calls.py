"""Sees attention in the torch functions that a model calls: a map that multiplies values, whatever computes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, cast, final

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attnchain_adapters.recording.fused_factors import fused_factors
from attnchain_adapters.softmaxes.map_product import AXES, NESTED, unfolded
from attnchain_adapters.softmaxes.trail import SoftmaxTrail
from attnchain_adapters.softmaxes.two_softmaxes import Doubt
from attnchain_interp import AttentionError, Factors
from attnchain_interp.operators import wide_dtype

Route = Literal["sdpa", "softmax", "multi-head"]

_TRANSFORMED: Final = (
    "it attends within torch.vmap or another transform of torch.func, whose tensors end with it (write the mapped axis as the"
    " first axis of its tensors)"
)
_MULTI_HEAD: Final = inspect.signature(F.multi_head_attention_forward)


@final
@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One use of attention in a forward: a torch function has mixed `values` by the map.

    Attributes:
        attention: the map that multiplies the values, (batch, head, query, key), or its factors.
        make_values: returns the values (batch, head, key, dim), or those of the key heads that query heads share. The map does
            not need them.
        output: turns the mixed values of the heads (batch, head, query, dim) into the result of the function.
        route: how it was seen. "sdpa": `scaled_dot_product_attention`. "multi-head": `multi_head_attention_forward`, of
            `nn.MultiheadAttention`. "softmax": a product of values with a softmax, or with something made of a softmax.
        sink: whether the softmax had a sink, a further key without values.
        same_tokens: whether queries and keys were computed from one and the same tensor; None where the call does not tell.
        folded: batch and heads came as one axis. It is the first of the map.
        pooled: the softmax went over another axis than its last, and the map has one query: the weights of a pool or a kernel.
        absent: marks the keys that are padding, (batch, key), where the call says so.
        weighs: each row has values of its own, and multiplied them entry by entry: a pool, or a router of experts.
    """

    attention: Tensor | Factors
    make_values: Callable[[], Tensor]
    output: Callable[[Tensor], Any]
    route: Route
    sink: bool = False
    same_tokens: bool | None = None
    folded: bool = False
    pooled: bool = False
    absent: Tensor | None = None
    weighs: bool = False

    @property
    def values(self) -> Tensor:
        """The values (batch, head, key, dim). Shared ones are repeated here."""
        return self._over_heads(self.make_values())

    def value_norms(self) -> Tensor:
        """Returns the length of each value (batch, head, key) in float32 or wider. Shared values are not repeated for it."""
        values = self.make_values().detach()
        return self._over_heads(torch.linalg.vector_norm(values, dim=-1, dtype=wide_dtype(values.dtype)))

    def _over_heads(self, shared: Tensor) -> Tensor:
        group = self.attention.shape[1] // shared.shape[1]
        return shared if group == 1 else shared.repeat_interleave(group, 1)

    def with_maps(self, maps: Tensor) -> Any:
        """Returns what the function returns with these maps (batch, head, query, key) in place of its own."""
        values = self.values
        return self.output(maps.to(values.dtype) @ values)

    def unfolded(self, heads: int) -> AttentionCall:
        """Returns the call with the heads on an axis of their own, where they were folded into the batch."""
        if not self.folded or heads == 1 or self.attention.shape[0] % heads:
            return self
        output = self.output
        return replace(
            self,
            attention=unfolded(self.attention, heads),
            make_values=lambda: self.values[:, 0].unflatten(0, (-1, heads)),
            output=lambda mixed: output(mixed.flatten(0, 1)[:, None]),
            folded=False,
        )


class AttentionCalls:
    """Follows a forward function by function, and finds each use of attention.

    A softmax is followed through casts, dropout, masks and reshapes to the matrix product with values. The map is the factor
    of that product. Whatever the model does to its probabilities after the softmax is in the map.
    """

    def __init__(self) -> None:
        self._trail = SoftmaxTrail()

    def seen(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> AttentionCall | Doubt | str | None:
        """Returns the use of attention in a function that the model has called, if it is one.

        A text says why a use of attention cannot be read: a fused kernel that shows no map, or values that are not multiplied
        by a matrix product. A doubt is one that cannot be read if it is not settled at the end of the forward.

        Args:
            function, args, kwargs: the torch function and its arguments.
            result: its result.
        """
        if function is F.scaled_dot_product_attention:
            return _TRANSFORMED if maybe_current_level() is not None else _fused_call(*args, **kwargs)
        product = self._trail.follow(function, args, kwargs, result)
        if product is None or isinstance(product, str | Doubt):
            return product or _kernel(function)
        if maybe_current_level() is not None:
            return _TRANSFORMED
        return AttentionCall(
            product.maps,
            lambda: product.values,
            product.output,
            "softmax",
            product.sink,
            folded=product.folded,
            pooled=product.pooled,
            weighs=product.weighs,
        )

    def multi_head(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[AttentionCall | str, tuple[Tensor, Tensor | None]]:
        """Runs `multi_head_attention_forward`, asked for the weights of each head. Returns the call and the result.

        A text says why the call cannot be read.

        Raises:
            AttentionError: dropout is active.
        """
        if maybe_current_level() is not None:
            return _TRANSFORMED, F.multi_head_attention_forward(*args, **kwargs)
        call = _MULTI_HEAD.bind(*args, **kwargs)
        call.apply_defaults()
        given = dict(call.arguments)
        if given["training"] and given["dropout_p"] > 0:
            raise AttentionError(f"attention dropout {given['dropout_p']} is active.", "Call model.eval() first.")
        extra = [name for name in ("bias_k", "add_zero_attn") if given[name] is not None and given[name] is not False]
        if extra:
            return f"{extra[0]} adds a key that is not a token", F.multi_head_attention_forward(*args, **kwargs)
        call.arguments.update(need_weights=True, average_attn_weights=False)
        with _LastProduct() as product:
            result, weights = cast("tuple[Tensor, Tensor]", F.multi_head_attention_forward(*call.args, **call.kwargs))
        values = product.right.unflatten(0, (-1, given["num_heads"]))
        single = weights.ndim == 3  # one example, without a batch
        maps = weights[None] if single else weights

        def returned(heads: Tensor) -> tuple[Tensor, Tensor | None]:
            return _projected(heads[0] if single else heads, given).reshape(result.shape), shown()

        def shown() -> Tensor | None:
            return (weights.mean(-3) if given["average_attn_weights"] else weights) if given["need_weights"] else None

        query, key, absent = given["query"], given["key"], given["key_padding_mask"]
        same = query is key or (query.shape == key.shape and torch.equal(query, key))
        if absent is not None and absent.dtype != torch.bool:
            absent = (absent < 0) & ~maps.ne(0).any((1, 2))
        found = AttentionCall(maps, lambda: values, returned, "multi-head", same_tokens=same, absent=absent)
        return found, (result, shown())


class _LastProduct(TorchDispatchMode):
    """While open, keeps the right factor of the last batched product: the values, which the function does not return."""

    right: Tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.bmm.default:
            self.right = args[1]
        return func(*args, **(kwargs or {}))


def _fused_call(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *args: Any, **kwargs: Any
) -> AttentionCall | str:
    if query.is_nested:
        return NESTED
    groups = query.ndim - 2
    if groups > 2:
        return f"it attends within groups of tokens: its queries are {tuple(query.shape)}"
    lead, back = AXES[groups]
    if hasattr(attn_mask, "_materialize"):  # a CausalBias of torch, which holds no numbers
        attn_mask = attn_mask._materialize(query.device)
    if attn_mask is not None and attn_mask.ndim > 2:
        attn_mask = attn_mask[lead]
    factors = fused_factors(query[lead], key[lead], value[lead], attn_mask, *args, **kwargs)
    return AttentionCall(factors, lambda: value[lead], lambda mixed: mixed[back], "sdpa", folded=groups == 1)


@lru_cache(1024)
def _kernel(function: Any) -> str | None:
    """The refusal of a fused function that shows no map."""
    name = getattr(function, "__name__", "")
    known = any(part in name for part in ("attention", "flash_attn", "varlen_attn", "_transformer_encoder_layer_fwd"))
    return f"it calls {name}, which shows no map" if known else None


def _projected(heads: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The projection (query, [batch,] width) of the mixed values of the heads ([batch,] head, query, dim)."""
    return F.linear(heads.movedim(-2, 0).flatten(-2), given["out_proj_weight"], given["out_proj_bias"])


def heads_of(module: nn.Module) -> int | None:
    """Returns the number of heads of a module; None where the module does not say."""
    names = ("num_heads", "n_heads", "n_head", "num_attention_heads", "heads")
    said = (getattr(module, name, None) for name in names)
    return next((heads for heads in said if isinstance(heads, int)), None)
