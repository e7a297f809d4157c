"""Follows a softmax through a forward, to the product that multiplies values by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

import torch
from torch import Tensor
from torch._C._functorch import maybe_current_level
from torch.nn import functional as F

from attnchain_adapters.softmaxes.einsum_labels import aligned, einsum_labels, rows_over
from attnchain_adapters.softmaxes.einsum_product import einsum_product
from attnchain_adapters.softmaxes.entry_products import MEAN, entries, weights_of
from attnchain_adapters.softmaxes.kept_probabilities import CAST, KEPT, SHAPED, still_rows
from attnchain_adapters.softmaxes.late_sums import LateProduct, LateSums
from attnchain_adapters.softmaxes.map_product import NESTED, Product
from attnchain_adapters.softmaxes.marks import Mark, Marks
from attnchain_adapters.softmaxes.origins import MULTIPLY, SOFTMAX, STARTS, SUM, SoftmaxOrigins, axis_given
from attnchain_adapters.softmaxes.probability_rows import excess, is_negative, rows_of
from attnchain_adapters.softmaxes.product_factors import MATRIX_PRODUCT, OTHER_PRODUCT, PRODUCT, by_place, factors, is_learnt
from attnchain_adapters.softmaxes.summed_queries import SummedQueries
from attnchain_adapters.softmaxes.two_softmaxes import Doubt, Doubts, may_attend, told
from attnchain_adapters.torch_operators import tensors_in

_BEGIN: Final = PRODUCT | MULTIPLY  # their factors may be known by their numbers
_WATCHED: Final = _BEGIN | STARTS


@final
class SoftmaxTrail:
    """Marks the results of softmaxes, and all that is made of them, until they multiply values.

    A tensor that is divided by its own sum counts as a softmax. The marks keep no marked tensor alive.
    """

    def __init__(self) -> None:
        self._marks, self._doubts = Marks(), Doubts()
        self._origins, self._late, self._summed = SoftmaxOrigins(), LateSums(), SummedQueries()
        self._open = False

    def follow(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> Product | Doubt | str | None:
        """Takes the next function of a forward, and its result. Returns the product with values, if the function is one.

        A text says why a product cannot be read. A doubt is a product that may be attention. The end of the forward decides
        it.
        """
        if not self._open and function not in _WATCHED:  # most functions of a forward
            return None
        if function in _BEGIN:
            args, kwargs = by_place(args, kwargs)
        if not self._open and function is F.linear and is_learnt(args[1]):
            return None
        axis, late = self._origins.axis(function, args, kwargs, result), self._late.follow(function, args, kwargs, result)
        if axis is not None and result.ndim > 1:
            self._marks[result] = Mark.along(result, axis)
            self._doubts.inherit(result, () if function in SOFTMAX else args)
        if isinstance(late, LateProduct):
            self._doubts.settle(late.weights)
            late = Product.grouped(late.weights / late.total, late.values, lambda heads: heads, late.weights.shape[-1], True)
        marked = None if axis is not None or late is not None else self._marked(function, args, kwargs, result)
        self._open = bool(self._marks or self._origins or self._late)
        if marked is None:
            return late or self._summed.follow(function, args, list(tensors_in(args)), result)
        used = self._used(function, args, kwargs, result, marked)
        if isinstance(used, str) and sum(each in self._marks for each in tensors_in(args)) == 1:
            self._doubts.settle(marked)  # it is named, and the products that made its map need no name
        return used

    def _used(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, marked: Tensor
    ) -> Product | Doubt | str | None:
        if marked.is_nested and (function in MATRIX_PRODUCT or function is torch.einsum):
            return NESTED
        mark = self._marks[marked]
        if mark.gated and function in PRODUCT and any(is_learnt(each) for each in args):
            return None
        if kwargs.get("out") is not None:
            return f"it calls {function.__name__} with out=, into a tensor of its own"
        if function in MATRIX_PRODUCT:
            return self._matrix_product(args[0], args[1], result)
        if function is F.linear and (weight := self._marks.multiplied(*args, **kwargs)) is not None:
            return self._matrix_product(args[0], weight, result)
        if function is torch.einsum:
            return self._einsum(args[0], list(tensors_in(args[1:])), result)
        if function in OTHER_PRODUCT:
            *_, first, second = tensors_in(args)
            learnt = is_learnt(second)
            return self._matrix_product(first, second, result) if learnt else f"it multiplies values by {function.__name__}"
        if function in SUM | MEAN and mark.product is not None:
            self._doubts.settle(marked)
            return mark.product.reduced(function, axis_given(args, kwargs), marked.ndim, result, mark.keys, mark.last)
        return self._derive(function, args, kwargs, result, marked)

    def _marked(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Tensor | None:
        """The marked tensor among the arguments. A factor of a product whose rows are probabilities is marked now."""
        given = list(tensors_in((*args, *(value for name, value in kwargs.items() if name != "out"))))
        marked = self._marks.first(given)
        if marked is None and maybe_current_level() is not None:
            marked = next((value for value in given if self._marks.outside(value)), None)
        if not isinstance(result, Tensor) or (marked is not None and (marked.is_nested or function not in _BEGIN)):
            return marked
        weights = weights_of(function, given)
        if weights is not None and weights not in self._marks and rows_of(weights[..., 0]) == "probabilities":
            self._marks[weights] = Mark.along(weights[..., 0], -1)
            return weights
        for weights, axis, values in factors(function, args, given) if function in PRODUCT else ():
            rows = None if weights in self._marks else rows_of(weights if axis == -1 else weights.movedim(axis, -1))
            if rows == "probabilities":
                self._marks[weights] = Mark.along(weights, axis)
            elif rows == "positive":
                self._late.multiplied(weights, values, result)
        return self._marks.first(given)

    def _derive(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, marked: Tensor
    ) -> str | None:
        """Marks the results of a function of a marked tensor. A text says why its product with values cannot be read."""
        mark = self._marks[marked]
        if function is Tensor.__setitem__:
            self._marks[args[0]] = replace(mark, exact=None)
            return None
        exact, product, sources = None, mark.product, args
        if function in KEPT:
            exact = mark.exact
        elif function in CAST:
            exact = mark.exact
            if isinstance(result, Tensor) and (result.is_complex() or result.dtype.itemsize < marked.dtype.itemsize):
                exact = marked if exact is None else exact
            exact = exact if exact is not None and exact.device == result.device else None
        elif function in SHAPED and mark.exact is not None and marked is args[0]:
            exact = function(mark.exact, *args[1:], **kwargs)
        elif function in MULTIPLY and isinstance(result, Tensor) and product is None:
            values: Any = next((each for each in args if each is not marked), None)
            for weights, others in ((values, marked), (marked, values)):
                if weights in self._marks:
                    own = self._marks[weights]
                    found = entries(weights, others, self._marks.exact(weights), own.keys, own.last)
                    if isinstance(found, str):
                        self._doubts.settle(weights)
                        return found
                    if found is not None:
                        product, mark, sources = found, own, (weights,)
        others = [
            each for each in tensors_in(args) if each.is_floating_point() and each.numel() > 1 and self._marks.rank(each) > 0
        ]
        computed = not all(is_learnt(each) for each in others)
        gated = mark.gated or (computed and is_negative(result) and not is_negative(marked))
        for tensor in tensors_in((result,)):
            numbers = tensor.is_floating_point() or (tensor.is_complex() and exact is not None)
            if numbers and (product is not None or still_rows(tensor, marked, function, mark.keys)):
                self._marks[tensor] = replace(mark, exact=exact, product=product, gated=gated)
                self._doubts.inherit(tensor, sources)
        return None

    def _matrix_product(self, first: Tensor, second: Tensor, result: Tensor) -> Product | Doubt | str | None:
        ranks = told(self._marks, (first, second), None if min(first.ndim, second.ndim) < 2 else (first, second.mT))
        if ranks is None:
            return self._doubtful(first, second, result)
        one, other = ranks
        if one > other and is_learnt(first):  # maps mixed by learnt weights
            self._derive(torch.matmul, (first, second), {}, result, second)
            return None
        transposed = one > other
        maps, values = (second, first) if transposed else (first, second)
        mark = self._marks[maps]
        without_tokens = is_learnt(values) or (values.ndim == 2 and maps.ndim > 3)
        if without_tokens:  # another map, whose heads or keys are mixed, or the values of a memory
            self._derive(torch.matmul, (first, second), {}, result, maps)
            if transposed or values.ndim < 2 or values.shape[-2] != mark.keys:
                return None
        exact, values = (self._marks.exact(maps).mT, values.mT) if transposed else (self._marks.exact(maps), values)
        if min(exact.ndim, values.ndim) < 2:
            return "it multiplies values by a vector"
        groups = result.shape[:-2]
        exact = exact.expand(*groups, *exact.shape[-2:])
        values = values.expand(*groups, *values.shape[-2:])
        found = Product.grouped(
            exact, values, lambda heads: heads.mT.contiguous() if transposed else heads, mark.keys, mark.last
        )
        self._summed.multiplied(result, -1 if transposed else -2, exact.shape[-1], mark.last)
        return self._found(found, maps, without_tokens)

    def _found(self, found: Product | str, maps: Tensor, without_tokens: bool) -> Product | str:
        """A product with values. Those that are not of tokens it weighs."""
        if without_tokens:
            return found if isinstance(found, str) else replace(found, weighs=True)
        if excess(maps, (-1,)) < 2:
            self._doubts.settle(maps)
        return found

    def _doubtful(self, first: Tensor, second: Tensor, result: Tensor) -> Doubt | None:
        """A product of two tensors that were made of softmaxes: attention, or a map that is made of maps."""
        self._derive(torch.matmul, (first, second), {}, result, second if second.shape == result.shape else first)
        if excess(result, (-1,)) == 0:
            self._marks[result] = Mark.along(result, -1)
        if result in self._marks:
            self._marks[result] = replace(self._marks[result], gated=True)
        self._doubts.inherit(result, (first, second))
        return self._doubts.add(result) if may_attend(self._marks, first, second) else None

    def _einsum(self, equation: Any, operands: list[Tensor], result: Tensor) -> Product | Doubt | str | None:
        if len(operands) != 2:
            return f"it multiplies values by an einsum of {len(operands)} tensors"
        labels, unread = einsum_labels(equation, operands), f"it multiplies values by einsum({equation!r})"
        if any(len({*each}) < len(each) for each in labels):  # of a diagonal
            return unread
        *pairs, out = *zip(operands, labels, strict=False), labels[2]
        ranks = told(self._marks, operands, rows_over(operands, labels))
        if ranks is None and not {*labels[0]} & {*labels[1]} <= {*out}:
            return self._doubtful(operands[0], operands[1], result)
        (maps, of_map), (values, of_values) = pairs if ranks is None or ranks[0] <= ranks[1] else pairs[::-1]
        if {*of_map, *of_values} == {*out}:  # a sum over keys may follow
            first, second = self._aligned(maps, of_map, out), self._aligned(values, of_values, out)
            return self._derive(torch.mul, (first, second), {}, result, first)
        sizes = dict(zip(of_map, maps.shape, strict=True))
        keys = [each for each in of_map if each in of_values and each not in out]
        mark = self._marks[maps]
        tokens = (mark.keys, mark.keys - 1)  # the softmax may have had a sink
        mixes_others = keys and keys[-1] != of_map[-1] and sizes[keys[-1]] not in tokens  # heads, queries
        shared = len(of_map) < 4 or any(each in of_map and each in of_values for each in out)  # else it mixes heads
        without_tokens = is_learnt(values) or not shared
        if without_tokens or not keys or mixes_others:
            self._derive(torch.einsum, (maps, values), {}, result, maps)
            if not without_tokens or keys != of_map[-1:] or sizes[of_map[-1]] != mark.keys:
                return None
        found = einsum_product((self._marks.exact(maps), values), (of_map, of_values, out), mark.keys, mark.last)
        for place in [place for place, each in enumerate(out) if each in of_map and each not in of_values][-1:]:
            self._summed.multiplied(result, place, sizes[keys[-1]], mark.last)
        return unread if found is None else self._found(found, maps, without_tokens)

    def _aligned(self, factor: Tensor, labels: Sequence[str], out: Sequence[str]) -> Tensor:
        """A factor of an einsum with the axes of its result, and with its mark."""
        found = aligned(factor, labels, out)
        if factor in self._marks:
            mark = self._marks[factor]
            self._marks[found] = replace(mark, exact=None if mark.exact is None else aligned(mark.exact, labels, out))
            self._doubts.inherit(found, (factor,))
        return found
