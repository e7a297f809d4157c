"""Finds a softmax whose sum divides after the product: `(e @ values) / e.sum(-1, keepdim=True)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final
from weakref import ref

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.kept_probabilities import CAST, SHAPED
from attnchain_adapters.softmaxes.origins import DIVIDE, INVERT, MULTIPLY, SHIFT, SUM

_MULTIPLY: Final = MULTIPLY | {Tensor.__rmul__}
_JOIN: Final = frozenset((torch.cat, torch.concat, torch.stack, torch.where, Tensor.__setitem__, Tensor.copy_))
_PASS: Final = DIVIDE | SHIFT | SHAPED | CAST | _MULTIPLY | INVERT | _JOIN
_REFUSAL: Final = "it divides by the sum of its weights after the product with values"


@final
@dataclass(frozen=True, eq=False)
class LateProduct:
    """A product of positive weights (…, query, key) with values (…, key, dim), which their sum (…, query, 1) has divided."""

    weights: Tensor
    values: Tensor
    total: Tensor


@final
@dataclass(frozen=True)
class _Made:
    """What a tensor was made of.

    Attributes:
        factors: the numbers of the weights.
        product: it holds their product with values; else their sums.
        whole: it is that product itself, or that sum up to a small number and the axis that it lacks.
    """

    factors: frozenset[int]
    product: bool
    whole: bool


@final
class LateSums:
    """Remembers products with positive weights, and sums, until one divides the other. No tensor but values stays alive."""

    def __init__(self) -> None:
        self._made: Any = WeakIdKeyDictionary()
        self._numbers: Any = WeakIdKeyDictionary()  # of weights
        self._products: Any = WeakIdKeyDictionary()  # → the weights and the values
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._made)

    def multiplied(self, weights: Tensor, values: Tensor | None, result: Tensor) -> None:
        """Takes a product of positive weights. Values are None where the weights are not its first factor as they are."""
        before = self._made[result].factors if result in self._made else frozenset[int]()
        self._made[result] = _Made(before | {self._number(weights)}, True, values is not None)
        if values is not None:
            self._products[result] = ref(weights), values

    def follow(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> LateProduct | str | None:
        """Takes the next function of a forward. Returns the product that its sum has divided now, if it has.

        A text says why such a product cannot be read.
        """
        summed = args[-1] if function is torch.einsum and len(args) == 2 else args[0] if function in SUM and args else None
        if isinstance(summed, Tensor) and summed.ndim > 1 and isinstance(result, Tensor):
            self._made[result] = _Made(frozenset((self._number(summed),)), False, True)
            return None
        if not self._made or function not in _PASS:
            return None
        given = [each for value in args for each in (value if isinstance(value, list | tuple) else (value,))]
        made = [(each, self._made[each]) for each in given if isinstance(each, Tensor) and each in self._made]
        if not made:
            return None
        if len(made) > 1 and function in DIVIDE | _MULTIPLY:
            (first, above), (second, below) = made[:2]
            if above.factors & below.factors and (above.product or below.product):
                return (
                    self._divided(first, second)
                    if function in DIVIDE and above.whole and below.whole and not below.product
                    else _REFUSAL
                )
        factors = frozenset[int]().union(*(each.factors for _, each in made))
        whole = function in SHIFT | SHAPED | CAST and len(made) == 1 and made[0][1].whole and not made[0][1].product
        new = _Made(factors, any(each.product for _, each in made), whole)
        for tensor in (args[0] if function in _JOIN and result is None else None, result):
            if isinstance(tensor, Tensor):
                self._made[tensor] = new
        return None

    def _divided(self, product: Tensor, total: Tensor) -> LateProduct | str:
        of_weights, values = self._products.get(product, (lambda: None, None))
        weights = of_weights()
        if weights is None or total.shape != (*weights.shape[:-1], 1):
            return _REFUSAL
        return LateProduct(weights, values, total)

    def _number(self, weights: Tensor) -> int:
        if weights not in self._numbers:
            self._count += 1
            self._numbers[weights] = self._count
        return self._numbers[weights]
