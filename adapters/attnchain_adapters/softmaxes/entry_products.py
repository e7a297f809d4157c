"""Products of a map and values entry by entry, which a sum or a mean over keys finishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_adapters.softmaxes.map_product import Product
from attnchain_adapters.softmaxes.origins import MULTIPLY, SUM
from attnchain_adapters.softmaxes.probability_rows import excess
from attnchain_adapters.softmaxes.product_factors import is_learnt

MEAN: Final = frozenset((torch.mean, Tensor.mean))
_KEY_BY_KEY: Final = "it multiplies values by one key of its map at a time"
_OWN_VALUES: Final = "it multiplies values entry by entry, and each query has values of its own"
_MEAN_OF_ENTRIES: Final = "it multiplies values entry by entry, and takes their mean over keys"


@final
@dataclass(frozen=True, eq=False)
class EntryProduct:
    """A product entry by entry, before its entries are summed over keys.

    Attributes:
        maps: (…, query, key); (…, 1, key) where each row has values of its own.
        values: (…, key, dim).
        axis: that of keys in the product, counted from its end.
    """

    maps: Tensor
    values: Tensor
    axis: int

    def reduced(
        self, function: Any, axis: Any, dimensions: int, result: Tensor, keys: int, last: bool
    ) -> Product | str | None:
        """Returns the product that a function finishes by a sum or a mean over keys; None if it finishes none.

        Args:
            function, axis, dimensions, result: the function of the entries, its axis out of so many, and its result.
            keys: the number of probabilities in a row of the softmax.
            last: whether the softmax went over its last axis.
        """
        axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
        if function not in SUM | MEAN or axis not in (self.axis, dimensions + self.axis):
            return None
        if self.maps.ndim > 3 and self.maps.shape[-2:] == (1, self.maps.shape[-3]):
            return _OWN_VALUES
        weighs = self.maps.shape[-2] == 1
        if function in MEAN and not weighs:
            return _MEAN_OF_ENTRIES
        values, shape = self.values.expand(*self.maps.shape[:-2], *self.values.shape[-2:]), result.shape
        found = Product.grouped(self.maps, values, lambda heads: heads.reshape(shape), keys, last)
        return found if isinstance(found, str) else replace(found, weighs=weighs)


def entries(weights: Tensor, values: Any, exact: Tensor, keys: int, last: bool) -> EntryProduct | str | None:
    """Returns the product, entry by entry, of something made of a softmax with values; None where it is none.

    A text says why it cannot be read.

    Args:
        weights: made of a softmax, (…, query, key, 1) where all queries share the values, else (…, key, 1). The last two axes
            may be in the other order, as those of the values then are.
        values: (…, key, dim).
        exact: the same numbers as `weights` before they were rounded.
        keys, last: see `EntryProduct.reduced`.
    """
    if not isinstance(values, Tensor) or values.ndim < 2 or weights.ndim < 3:
        return None
    if last and weights.shape[-1] == 1 < weights.shape[-2] and values.shape[-2] == 1 < values.shape[-1] and keys > 1:
        joint = excess(weights.mT, (-1,)) == excess(values, (-1,)) == 0  # of rows and columns: positions are interpolated so
        return None if joint or is_learnt(values) else _KEY_BY_KEY
    tokens = (keys, keys - 1)  # the softmax may have had a sink
    if weights.shape[-1] == 1 and weights.shape[-2] in tokens and values.shape[-1] > 1:
        return _of(exact, values, -2)
    if weights.shape[-2] == 1 and weights.shape[-1] in tokens and values.shape[-2] > 1:
        return _of(exact.mT, values.mT, -1)
    return None


def _of(weights: Tensor, values: Tensor, axis: int) -> EntryProduct:
    """The product of weights (…, query, key, 1) or (…, key, 1) with values (…, key, dim)."""
    maps = weights[..., 0]
    if values.ndim < weights.ndim:
        return EntryProduct(maps, values, axis)
    if weights.ndim > 3 and (values.shape[-3] == 1 or values.stride(-3) == 0):
        return EntryProduct(maps, values.select(-3, 0), axis)
    return EntryProduct(maps.unsqueeze(-2), values, axis)


def weights_of(function: Any, given: Sequence[Tensor]) -> Tensor | None:
    """Returns the factor of a multiplication that may be a map: (…, query, key, 1) beside values (…, key, dim)."""
    if function not in MULTIPLY or len(given) != 2:
        return None
    for weights, values in (given, given[::-1]):
        if min(weights.ndim, values.ndim) > 3 and weights.shape[-1] == 1 and weights.shape[-2] == values.shape[-2] > 1:
            return weights if values.shape[-1] > 1 else None
    return None
