"""Marks the tensors of a forward that were made of softmaxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.entry_products import EntryProduct
from attnchain_adapters.softmaxes.product_factors import is_learnt


@final
@dataclass(frozen=True, eq=False)
class Mark:
    """Marks a tensor that was made of a softmax.

    Attributes:
        keys: the number of probabilities in a row of the softmax.
        last: whether the softmax went over its last axis.
        exact: the same numbers before they were rounded to 16 bits; None where the tensor itself is the most exact.
        product: the product with values, entry by entry, that it holds.
        gated: numbers that the model computed made some entries negative. It may be a map, or what a gate let through.
    """

    keys: int
    last: bool
    exact: Tensor | None = None
    product: EntryProduct | None = None
    gated: bool = False

    @classmethod
    def along(cls, weights: Tensor, axis: int) -> Mark:
        """Returns the mark of a tensor that is a softmax over an axis."""
        return cls(weights.shape[axis], axis % weights.ndim == weights.ndim - 1)


@final
class Marks:
    """The marks of tensors. They keep no marked tensor alive."""

    def __init__(self) -> None:
        self._marks: Any = WeakIdKeyDictionary()

    def __bool__(self) -> bool:
        return bool(self._marks)

    def __contains__(self, tensor: object) -> bool:
        return isinstance(tensor, Tensor) and tensor in self._marks

    def __getitem__(self, tensor: Tensor) -> Mark:
        return self._marks[tensor]

    def __setitem__(self, tensor: Tensor, mark: Mark) -> None:
        self._marks[tensor] = mark

    def __len__(self) -> int:
        return len(self._marks)

    def rank(self, tensor: Tensor) -> int:
        """Returns 0: made of a softmax; 1: perhaps the output of a gate; 2: anything else."""
        return int(self._marks[tensor].gated) if tensor in self._marks else 2

    def first(self, given: Iterable[Tensor]) -> Tensor | None:
        """Returns the first of some tensors that is marked, one of rank 0 before others; None where none is."""
        return min((each for each in given if each in self._marks), key=self.rank, default=None) if self._marks else None

    def outside(self, value: Tensor) -> bool:
        """Marks a tensor within torch.vmap if it was marked before the mapped function was called. Returns whether it was."""
        inner = value
        while is_functorch_wrapped_tensor(inner):
            inner = get_unwrapped(inner)
        if inner in self._marks:
            self._marks[value] = replace(self._marks[inner], exact=None)
        return inner in self._marks

    def exact(self, tensor: Tensor) -> Tensor:
        """Returns a marked tensor as it was before it was rounded."""
        before = self._marks[tensor].exact
        return tensor if before is None else before

    def multiplied(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:  # noqa: A002
        """Returns the second factor of the product that a linear function is; None where it multiplies no values by a map."""
        turned = weight.mT
        if weight in self._marks:
            self._marks[turned] = self._marks[weight]
            return turned if input in self._marks or input.ndim == 2 else None
        if input not in self._marks:
            return None
        return nn.Parameter(turned, False) if is_learnt(weight) or input.ndim > 2 or bias is not None else turned
