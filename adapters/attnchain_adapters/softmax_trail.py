"""Follows a softmax through a forward, to the product that multiplies values by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.einsum_labels import einsum_labels
from attnchain_adapters.map_product import NESTED, Product

_SOFTMAX: Final = frozenset(
    [
        *(torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax, F.gumbel_softmax),
        *(torch.log_softmax, Tensor.log_softmax, F.log_softmax, torch.special.log_softmax),
    ]
)
_SUM: Final = frozenset((torch.sum, Tensor.sum))
_STARTS: Final = _SOFTMAX | _SUM
_SHIFT: Final = frozenset((torch.add, Tensor.add, Tensor.add_, torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min))
_DIVIDE: Final = frozenset((torch.div, Tensor.div, Tensor.div_, torch.true_divide, Tensor.true_divide))
_MULTIPLY: Final = frozenset((torch.mul, Tensor.mul, Tensor.mul_))
_MATRIX_PRODUCT: Final = frozenset((torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm))
_OTHER_PRODUCT: Final = frozenset((torch.baddbmm, Tensor.baddbmm, torch.addmm, Tensor.addmm, torch.tensordot))
_CAST: Final = frozenset((Tensor.to, Tensor.type, Tensor.type_as, Tensor.half, Tensor.bfloat16, Tensor.float, Tensor.double))
_KEPT: Final = frozenset((F.dropout, torch.dropout, Tensor.contiguous, Tensor.clone, torch.clone))  # a capture has no dropout
_JOINED: Final = frozenset((torch.cat, torch.concat, torch.stack))
_SHAPED: Final = frozenset(
    [
        *(Tensor.view, Tensor.reshape, torch.reshape, Tensor.flatten, torch.flatten, Tensor.unflatten, torch.unflatten),
        *(Tensor.permute, torch.permute, Tensor.transpose, torch.transpose, Tensor.swapaxes, torch.swapaxes, Tensor.movedim),
        *(Tensor.unsqueeze, torch.unsqueeze, Tensor.squeeze, torch.squeeze, Tensor.expand, Tensor.narrow, torch.narrow),
        *(Tensor.__getitem__, getattr(Tensor.mT, "__get__"), getattr(Tensor.T, "__get__")),  # noqa: B009
    ]
)


@final
@dataclass(frozen=True)
class _Mark:
    """Marks a tensor that was made of a softmax.

    Attributes:
        keys: the number of probabilities in a row of the softmax.
        last: whether the softmax went over its last axis.
        exact: the same numbers before they were rounded to 16 bits; None where the tensor itself is the most exact.
        mixed: whether it has been multiplied by values, entry by entry.
    """

    keys: int
    last: bool
    exact: Tensor | None = None
    mixed: bool = False


@final
class SoftmaxTrail:
    """Marks the results of softmaxes, and all that is made of them, until they multiply values.

    A tensor that is divided by its own sum counts as a softmax. The marks keep no marked tensor alive.
    """

    def __init__(self) -> None:
        self._marks: Any = WeakIdKeyDictionary()
        self._sums: Any = WeakIdKeyDictionary()
        self._open = False

    def follow(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Product | str | None:
        """Takes the next function of a forward, and its result. Returns the product with values, if the function is one.

        A text says why a product cannot be read.
        """
        if not self._open and function not in _STARTS:  # most functions of a forward
            return None
        if self._begins(function, args, kwargs, result) or not self._marks:
            self._open = bool(self._marks or self._sums)
            return None
        marked = next((value for value in _tensors((*args, *kwargs.values())) if value in self._marks), None)
        if marked is None:
            return None
        if marked.is_nested and (function in _MATRIX_PRODUCT or function is torch.einsum):
            return NESTED
        if function in _MATRIX_PRODUCT:
            first, second = (*args, *kwargs.values())[:2]
            return self._matrix_product(first, second, result)
        if function is torch.einsum:
            return self._einsum(args[0], list(_tensors(args[1:])), result)
        if function in _OTHER_PRODUCT:
            return f"it multiplies values by {function.__name__}"
        if function in _SUM and self._marks[marked].mixed and _axis(args, kwargs) in (-2, marked.ndim - 2):
            return "it multiplies values entry by entry, and adds them up"
        self._derive(function, args, kwargs, result, marked)
        return None

    def _begins(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> bool:
        """Marks the result of a softmax, or of a division by the tensor's own sum."""
        if not isinstance(result, Tensor):
            return False
        if function in _SOFTMAX:
            self._mark_softmax(result, _axis(args, kwargs))
            return True
        if function in _SUM and isinstance(args[0], Tensor) and result.ndim == args[0].ndim:
            self._sums[result] = id(args[0]), _axis(args, kwargs)
        elif len(self._sums) and args and isinstance(args[0], Tensor):
            if function in _SHIFT and args[0] in self._sums:
                self._sums[result] = self._sums[args[0]]
            elif function in _DIVIDE and isinstance(args[1], Tensor) and args[1] in self._sums:
                source, axis = self._sums[args[1]]
                if source == id(args[0]):
                    self._mark_softmax(result, axis)
                    return True
        return False

    def _mark_softmax(self, result: Tensor, axis: Any) -> None:
        if isinstance(axis, list | tuple) and len(axis) == 1:
            axis = axis[0]
        if isinstance(axis, int) and result.ndim > 1:
            self._marks[result] = _Mark(result.shape[axis], axis % result.ndim == result.ndim - 1)

    def _derive(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, marked: Tensor) -> None:
        """Marks the results of a function of a marked tensor."""
        mark = self._marks[marked]
        if function is Tensor.__setitem__:
            self._marks[args[0]] = replace(mark, exact=None)
            return
        exact, mixed = None, mark.mixed
        if function in _KEPT:
            exact = mark.exact
        elif function in _CAST:
            exact = mark.exact
            if isinstance(result, Tensor) and result.dtype.itemsize < marked.dtype.itemsize and exact is None:
                exact = marked
            exact = exact if exact is not None and exact.device == result.device else None
        elif function in _SHAPED and mark.exact is not None and marked is args[0]:
            exact = function(mark.exact, *args[1:], **kwargs)
        elif function in _MULTIPLY and isinstance(result, Tensor):
            mixed |= marked.ndim > 3 and marked.shape[-2:] == (mark.keys, 1) and result.shape[-1] > 1
        for tensor in _tensors((result,)):
            if tensor.is_floating_point() and (mixed or function in _SHAPED or _still_rows(tensor, marked, function)):
                self._marks[tensor] = replace(mark, exact=exact, mixed=mixed)

    def _matrix_product(self, first: Tensor, second: Tensor, result: Tensor) -> Product | str | None:
        if first in self._marks and second not in self._marks and not _learnt(second):
            maps, values, transposed = first, second, False
        elif second in self._marks and first not in self._marks and not _learnt(first):
            maps, values, transposed = second, first, True
        else:  # maps by maps, or maps mixed by learnt weights
            self._derive(torch.matmul, (first, second), {}, result, first if first in self._marks else second)
            return None
        mark = self._marks[maps]
        exact = maps if mark.exact is None else mark.exact
        exact, values = (exact.mT, values.mT) if transposed else (exact, values)
        if min(exact.ndim, values.ndim) < 2:
            return "it multiplies values by a vector"
        groups = result.shape[:-2]
        exact = exact.expand(*groups, *exact.shape[-2:])
        values = values.expand(*groups, *values.shape[-2:])
        return Product.grouped(
            exact, values, lambda heads: heads.mT.contiguous() if transposed else heads, mark.keys, mark.last
        )

    def _einsum(self, equation: Any, operands: list[Tensor], result: Tensor) -> Product | str | None:
        if len(operands) != 2:
            return f"it multiplies values by an einsum of {len(operands)} tensors"
        labels = einsum_labels(equation, operands)
        (maps, of_map), (values, of_values) = sorted(
            zip(operands, labels, strict=False), key=lambda each: each[0] not in self._marks
        )
        out = labels[2]
        sizes = dict(zip(of_map, maps.shape, strict=True)) | dict(zip(of_values, values.shape, strict=True))
        keys = [each for each in of_map if each in of_values and each not in out]
        mixes_others = keys and keys[-1] != of_map[-1] and sizes[keys[-1]] != self._marks[maps].keys  # heads, queries
        if values in self._marks or _learnt(values) or not keys or mixes_others:
            self._derive(torch.einsum, (maps, values), {}, result, maps)
            return None
        alone = [each for each in of_map if each in out and each not in of_values]
        groups = [each for each in of_map if each in out and each not in alone[-1:]]
        if len(keys) > 1 or len(groups) + len(alone[-1:]) + 1 != len(of_map):
            return f"it multiplies values by einsum({equation!r})"
        rest = [each for each in of_values if each not in (*groups, *keys)]
        mark = self._marks[maps]
        exact = maps if mark.exact is None else mark.exact
        exact = exact.permute([of_map.index(each) for each in (*groups, *alone[-1:], *keys)])
        exact = exact if alone else exact.unsqueeze(-2)
        there = [each for each in groups if each in of_values]
        values = values.permute([of_values.index(each) for each in (*there, *keys, *rest)])
        values = values[tuple(slice(None) if each in there else None for each in groups)]
        values = values.flatten(len(groups) + 1) if rest else values[..., None]
        values = values.expand(*(sizes[each] for each in groups), *values.shape[-2:])

        def output(heads: Tensor) -> Tensor:
            heads = heads.reshape(*heads.shape[:-1], *(sizes[each] for each in rest))
            heads = heads if alone else heads.squeeze(len(groups))
            order = [*groups, *alone[-1:], *rest]
            return heads.permute([order.index(each) for each in out]).contiguous()

        return Product.grouped(exact, values, output, mark.keys, mark.last)


def _still_rows(result: Tensor, marked: Tensor, function: Any) -> bool:
    """Whether a function of probabilities can have rows of probabilities: as long as before, and no more of them."""
    return result.shape[-1:] == marked.shape[-1:] and (result.numel() <= marked.numel() or function in _JOINED)


def _learnt(tensor: Any) -> bool:
    """Whether a factor is a learnt weight: the product then makes another map, and does not multiply values."""
    return isinstance(tensor, nn.Parameter)


def _axis(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
