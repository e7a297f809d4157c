"""The rules of AttnLRP for torch functions: while they are in force, input times gradient is relevance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import float32_or_wider

_SPELLINGS: Final = {  # operators and synonyms
    **{f"{way}{name}": name for way in "ri" for name in ("add", "sub", "mul", "matmul")},
    **dict.fromkeys(("truediv", "itruediv", "divide", "true_divide"), "div"),
    "rtruediv": "rdiv",
    "subtract": "sub",
    "multiply": "mul",
    "square": "pow",
    "linalg_vector_norm": "norm",
}
_SCALED: Final = {"add", "sub", "mul", "div", "neg"}  # of a tensor and a number: still an expression of that tensor
_CAST: Final = {"to", "float", "double", "half", "bfloat16", "type", "type_as", "contiguous", "clone"}
_ELEMENTWISE: Final = {
    *("gelu", "silu", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "mish", "hardswish", "hardsigmoid", "softplus"),
    *("logsigmoid", "sigmoid", "tanh", "erf", "exp", "pow", "abs", "clamp", "clamp_min", "clamp_max", "reciprocal"),
    *("rdiv", "rpow"),
}
_SCALES: Final = {"sqrt", "rsqrt", "std", "var", "norm", "vector_norm"}
_PRODUCTS: Final = {"mul", "matmul", "bmm", "mm", "mv", "einsum", "linear", "conv1d", "conv2d", "conv3d"}
_SUMMED_PRODUCTS: Final = {"addmm", "baddbmm"}
_PLAIN: Final = {
    *("add", "sub", "neg", "div", "sum", "mean", "cumsum", "softmax", "dropout", "dropout1d", "dropout2d", "alpha_dropout"),
    *("__get__", "getitem", "setitem", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "concat"),
    *("transpose", "swapaxes", "swapdims", "permute", "movedim", "t", "adjoint", "squeeze", "unsqueeze", "broadcast_to"),
    *("repeat", "repeat_interleave", "tile", "split", "chunk", "tensor_split", "unbind", "narrow", "select", "index_select"),
    *("gather", "take_along_dim", "cat", "concatenate", "stack", "hstack", "vstack", "where", "masked_fill", "masked_scatter"),
    *("copy", "roll", "flip", "unfold", "fold", "pixel_shuffle", "pixel_unshuffle", "interpolate", "batch_norm", "pad"),
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "expand", "expand_as", "tril", "triu", *_CAST),
}


@final
class RelevanceRules(TorchFunctionMode):
    """While open, each torch function that reads the model's input has a gradient g of AttnLRP: x ⊙ g is the relevance of x.

    - A function f that acts on each entry by itself passes g · f(x) / x on (the identity rule). An activation that is written
      out, such as x · sigmoid(x), is one such function.
    - A product of two tensors that depend on the input halves g (the uniform rule). These are attention times values, queries
      times keys, and a gate times what it gates.
    - The scale of a norm is a constant: a layer norm passes g through its centring, its weight and its division.
    - A softmax has its own gradient (its Taylor rule), whose bias takes a part of the relevance. So has each linear function.

    A weight is a constant, and gets no gradient.

    Args:
        given: the tensor whose gradient is asked for: a leaf that requires gradients.

    Raises:
        AttentionError: a function for which there is no rule, in the backward that comes to its result (in the forward, if it
            works in place). The message names it, and the module.

    Source: Achtibat et al., *AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers*, ICML 2024; rules by
    input times gradient as in its package `lxt` ("efficient").
    """

    def __init__(self, given: Tensor | None = None) -> None:
        super().__init__()
        self.given = given
        self._roots = WeakTensorKeyDictionary()  # the result of an expression of one tensor's entries → that tensor

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args = tree_map(self._constant, args)
        kwargs = {name: tree_map(self._constant, value) for name, value in (kwargs or {}).items()}
        several = [tensor for tensor in _tensors((args, kwargs)) if tensor.requires_grad]
        if not several or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        written: str = func.__name__
        in_place = written.endswith("_") and (not written.startswith("__") or written[2] == "i")
        name = written if written == "__get__" else _SPELLINGS.get(stem := written.strip("_"), stem)
        if func in _WHOLE:
            return _WHOLE[func](*args, **kwargs)
        if name in _SCALES or (name == "pow" and _is_root(args, kwargs)):
            return func(*args, **kwargs).detach()
        if name in _ELEMENTWISE or (name in _SCALED and self._is_expression(several)):
            known = None if in_place else self._expression(func, args, kwargs, several)
            return self._refused(func, args, kwargs, in_place) if known is None else known
        product = name in _PRODUCTS or (name in _SUMMED_PRODUCTS and not args[0].requires_grad)
        if len(several) > 1 and (in_place or name == "setitem"):
            self._forget(args[0])
        if len(several) == 1 or not (product or name == "div"):
            if product or name in _PLAIN | _SUMMED_PRODUCTS:
                return self._noted(func(*args, **kwargs), name, args, several)
        elif product and not in_place:
            return _halved(func(*args, **kwargs), len(several))
        return self._refused(func, args, kwargs, in_place)

    def _refused(self, func: Any, args: Any, kwargs: Any, in_place: bool) -> Any:
        """Returns the result of a function without a rule. The backward raises an error if it comes by."""
        result, error = func(*args, **kwargs), _unknown(func.__name__)

        def refuse(_: Tensor) -> None:
            raise error

        for tensor in (tensor for tensor in _tensors(result) if tensor.requires_grad):
            if in_place:
                raise error
            if not any(tensor is given for given in _tensors((args, kwargs))):
                tensor.register_hook(refuse)
        return result

    def _constant(self, value: Any) -> Any:
        """A weight, cut from the graph: then a tensor requires a gradient if and only if it depends on the input."""
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf and value is not self.given:
            return value.detach()
        return value

    def _root(self, tensor: Tensor) -> Any:
        return self._roots.get(tensor, tensor)

    def _is_expression(self, several: list[Tensor]) -> bool:
        """Returns whether these are several expressions of one tensor, entry by entry."""
        return len(several) > 1 and len({id(self._root(tensor)) for tensor in several}) == 1

    def _expression(self, func: Any, args: Any, kwargs: Any, several: list[Tensor]) -> Any:
        """Returns the result of a function of one tensor's entries, by the identity rule; None where it is none."""
        root = self._root(several[0])
        with torch.no_grad():
            value = func(*tree_map(_copied, args), **tree_map(_copied, kwargs))  # a copy, if it works in place
            if value.shape != root.shape or any(self._root(tensor) is not root for tensor in several):
                return None
            slope = (value / root).masked_fill(root == 0, 0)
        result = _Sloped.apply(root, value, slope)
        self._roots[result] = root
        return result

    def _forget(self, changed: Tensor) -> None:
        """Forgets that a tensor, changed in place by another one, is an expression, and that others are expressions of it."""
        for result, root in [*self._roots.items()]:
            if changed is result or changed is root:
                del self._roots[result]

    def _noted(self, result: Any, name: str, args: tuple[Any, ...], several: list[Tensor]) -> Any:
        """Notes a linear result where it is still an expression of one tensor's entries."""
        numbers = all(value is several[0] or not isinstance(value, Tensor) or value.ndim == 0 for value in args[:2])
        if len(several) == 1 and (name in _CAST or (name in _SCALED and numbers)) and result is not several[0]:
            self._roots[result] = self._root(several[0])
        return result


class _Sloped(torch.autograd.Function):
    """A value that no other tensor shares, as if it were the input times a slope. The model may change it in place."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, value: Tensor, slope: Tensor | float) -> Tensor:  # type: ignore[override]
        ctx.slope, ctx.dtype = slope, tensor.dtype
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return (gradient * ctx.slope).to(ctx.dtype), None, None


def _halved(tensor: Tensor, factors: int) -> Tensor:
    """Returns a tensor whose gradient is divided among the factors that it is a product of. It may be changed in place."""
    tensor.register_hook(lambda gradient: gradient / factors)
    return tensor


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return F.scaled_dot_product_attention(*_shared(query, key, value), *args, **kwargs)


def _multi_head(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    return F.multi_head_attention_forward(*_shared(query, key, value), *args, **kwargs)


def _shared(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the three with their parts of the gradient: those of two products, as far as both factors have one."""
    logits = query.requires_grad or key.requires_grad
    of_logits = (1 + value.requires_grad) * (1 + (query.requires_grad and key.requires_grad))
    parts = (query, of_logits), (key, of_logits), (value, 1 + logits)
    query, key, value = (_halved(each.view_as(each), factors) if each.requires_grad else each for each, factors in parts)
    return query, key, value


def _layer_norm(
    tensor: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    dtype, tensor = tensor.dtype, float32_or_wider(tensor)
    centred = tensor - tensor.mean(axes, keepdim=True)
    normal = centred * (tensor.var(axes, correction=0, keepdim=True) + eps).rsqrt().detach()
    normal = normal if weight is None else normal * weight
    return (normal if bias is None else normal + bias).to(dtype)


def _rms_norm(tensor: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    axes, eps = tuple(range(-len(tuple(normalized_shape)), 0)), torch.finfo(tensor.dtype).eps if eps is None else eps
    dtype, tensor = tensor.dtype, float32_or_wider(tensor)
    normal = tensor * (tensor.square().mean(axes, keepdim=True) + eps).rsqrt().detach()
    return (normal if weight is None else normal * weight).to(dtype)


def _normalised(tensor: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    return tensor / tensor.norm(p, dim, keepdim=True).clamp_min(eps).detach()


_WHOLE: Final[dict[Any, Callable[..., Any]]] = {
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _multi_head,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.normalize: _normalised,
}


def _is_root(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Returns whether the exponent of a power is a number below one: the power is a scale, as a square root is."""
    exponent = kwargs.get("exponent", args[1] if len(args) > 1 else None)
    return isinstance(exponent, int | float) and exponent < 1


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) and value.requires_grad else value


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _unknown(function: str) -> AttentionError:
    """Returns the error of a function without a rule, with the module that calls it."""
    frame, owner = sys._getframe(), None
    while frame is not None and not isinstance(owner, nn.Module):
        owner, frame = frame.f_locals.get("self"), frame.f_back
    caller = f"{type(owner).__name__} calls" if isinstance(owner, nn.Module) else "the model calls"
    return AttentionError(
        f"{caller} {function}, for which there is no rule of relevance.",
        "Use a method of gradients that needs no rules, such as GradientTokenRank, or LeaveOneOut.",
    )
