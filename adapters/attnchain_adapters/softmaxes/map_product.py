"""A product of values with a map, whose batch and heads have two axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from torch import Tensor

from attnchain_interp import Factors

NESTED: Final = "its sequences are nested in one tensor, and have no map of one size"
# Indices that add the axes of batch and heads where there are 0, 1 or 2 of them, and that take them off again.
AXES: Final[Sequence[tuple[Any, Any]]] = (
    ((None, None), (0, 0)),
    ((slice(None), None), (slice(None), 0)),
    ((slice(None),), (slice(None),)),
)


@final
@dataclass(frozen=True, eq=False)
class Product:
    """A product of values with a map.

    Attributes:
        maps: (batch, head, query, key).
        values: (batch, head, key, dim).
        output: turns (batch, head, query, dim) into the result of the function.
        sink: the softmax had one key more than there are values.
        folded: the product has one axis for batch and heads together. It is the first of `maps`.
        pooled: the softmax went over another axis than its last, and there is one query: the weights of a pool or a kernel.
        weighs: each row has values of its own, and multiplied them entry by entry: a pool, or a router of experts.
    """

    maps: Tensor
    values: Tensor
    output: Callable[[Tensor], Tensor]
    sink: bool
    folded: bool
    pooled: bool
    weighs: bool = False

    @classmethod
    def grouped(cls, maps: Tensor, values: Tensor, output: Callable[[Tensor], Tensor], keys: int, last: bool) -> Product | str:
        """Returns the product of maps (…, query, key) and values (…, key, dim) with up to two axes for batch and heads.

        A text says that they have more.

        Args:
            maps, values: the factors.
            output: turns (…, query, dim) into the result of the function.
            keys: the number of probabilities in a row of the softmax.
            last: whether the softmax went over its last axis.
        """
        groups = maps.ndim - 2
        if groups > 2:
            return f"it attends within groups of tokens: its map is {tuple(maps.shape)}"
        lead, back = AXES[groups]
        pooled = not last and maps.shape[-2] == 1
        sink = maps.shape[-1] == keys - 1
        return cls(maps[lead], values[lead], lambda heads: output(heads[back]), sink, groups == 1, pooled)


def unfolded(attention: Tensor | Factors, heads: int) -> Tensor | Factors:
    """Returns a map, or its factors, whose first axis is batch and heads, with the heads on an axis of their own."""
    if isinstance(attention, Tensor):
        return attention[:, 0].unflatten(0, (-1, heads))
    query, key = (tensor[:, 0].unflatten(0, (-1, heads)) for tensor in (attention.query, attention.key))
    mask = attention.mask
    if mask is not None and mask.ndim == 4 and mask.shape[0] == attention.shape[0]:
        mask = mask[:, 0].unflatten(0, (-1, heads))
    return Factors(query, key, scale=attention.scale, mask=mask, causal=attention.causal)
