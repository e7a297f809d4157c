"""Products with values whose queries are summed over next: those of linear attention, which are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.product_factors import PRODUCT, factors, is_learnt

REFUSAL: Final = "another product sums over the queries of its map, which are channels, as those of linear attention"


@final
class SummedQueries:
    """Remembers the results of products with values, until something computed multiplies their queries. Keeps none alive."""

    def __init__(self) -> None:
        self._axes: Any = WeakIdKeyDictionary()

    def multiplied(self, result: Tensor, axis: int, keys: int, last: bool) -> None:
        """Takes a product with values, and the axis of its queries.

        Args:
            result: of the product.
            axis: of the queries.
            keys: the number of keys of its map.
            last: whether the softmax went over its last axis. With as many queries as keys, the queries are tokens then.
        """
        if not last or result.shape[axis] != keys:
            self._axes[result] = axis % result.ndim, keys

    def follow(self, function: Any, args: Sequence[Any], given: Sequence[Tensor], result: Any) -> str | None:
        """Takes the next function of a forward, the tensors among its arguments, and its result.

        Returns the refusal of a product that sums over queries. The other factor of such a product has a row for each key. A
        factor of fewer rows pools what the queries took.
        """
        if function not in PRODUCT or not self._axes or any(map(is_learnt, given)):
            return None
        for factor, axis, _ in factors(function, args, list(given)):
            queries, keys = self._axes.get(factor, (None, 0))
            if queries == axis % factor.ndim and result.numel() * factor.shape[axis] == factor.numel() * keys:
                return REFUSAL
        return None
