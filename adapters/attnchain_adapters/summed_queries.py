"""Products with values whose queries are summed over next: those of linear attention, which are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.product_factors import PRODUCT, factors, is_learnt

REFUSAL: Final = "another product sums over the queries of its map, which are channels, as those of linear attention"


@final
class SummedQueries:
    """Remembers the results of products with values, until something computed multiplies their queries. Keeps none alive."""

    def __init__(self) -> None:
        self._axes: Any = WeakIdKeyDictionary()

    def multiplied(self, result: Tensor, axis: int) -> None:
        """Takes a product with values, and the axis of its queries."""
        self._axes[result] = axis % result.ndim

    def follow(self, function: Any, args: Sequence[Any], given: Sequence[Tensor]) -> str | None:
        """Takes the next function of a forward, and the tensors among its arguments. Returns the refusal of such a product."""
        if function not in PRODUCT or not self._axes or any(map(is_learnt, given)):
            return None
        summed = (self._axes.get(factor) == axis % factor.ndim for factor, axis, _ in factors(function, args, list(given)))
        return REFUSAL if any(summed) else None
