"""Operators that remember how they are made of others, and apply it to each product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import final

import torch
from torch import Tensor

from attnchain_interp.operators.operator import Dense, Operator, full_precision


class Remembering(Operator):
    """An operator whose matrix is not held: operations on it are remembered."""

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Operator:
        return Scaled(self, rows, columns)

    def transposed(self) -> Operator:
        return Transposed(self)

    def plus(self, column: Tensor, row: Tensor) -> Operator:
        return PlusOuter(self, column, row)

    def head_mean(self, weights: Tensor) -> Operator:
        return HeadMean(self, weights)


def total(operators: Sequence[Operator]) -> Operator:
    """Returns the sum of matrices of one shape."""
    if len(operators) == 1:
        return operators[0]
    maps = [operator.matrix for operator in operators if isinstance(operator, Dense)]
    return Dense(reduce(torch.add, maps)) if len(maps) == len(operators) else Sum(operators)


class Composed(Remembering):
    """An operator of `shape`, made of other operators and of tensors."""

    def __init__(self, shape: Sequence[int], first: Operator, *others: Operator | Tensor | None) -> None:
        self.shape, self.dtype, self.device = torch.Size(shape), first.dtype, first.device
        self._parts = (first, *others)

    @property
    def requires_grad(self) -> bool:
        return any(part is not None and part.requires_grad for part in self._parts)


@final
class Scaled(Composed):
    """diag(rows) M diag(columns)."""

    def __init__(self, inner: Operator, rows: Tensor | None, columns: Tensor | None) -> None:
        super().__init__(inner.shape, inner, rows, columns)
        self._inner, self._rows, self._columns = inner, rows, columns

    @staticmethod
    def _times(v: Tensor, factor: Tensor | None) -> Tensor:
        return v if factor is None else v * factor[..., None, :]

    def left(self, v: Tensor) -> Tensor:
        return self._times(self._inner.left(self._times(v, self._rows)), self._columns)

    def right(self, x: Tensor) -> Tensor:
        return self._times(self._inner.right(self._times(x, self._columns)), self._rows)

    def part(self, rows: slice, columns: slice) -> Operator:
        kept = (None if t is None else t[..., some] for t, some in ((self._rows, rows), (self._columns, columns)))
        return Scaled(self._inner.part(rows, columns), *kept)

    def dense(self) -> Tensor:
        return Dense(self._inner.dense()).scaled(self._rows, self._columns).dense()

    def diagonal(self) -> Tensor:
        diagonal = self._inner.diagonal()
        for factor in (self._rows, self._columns):
            diagonal = diagonal if factor is None else diagonal * factor
        return diagonal

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return self._inner.triangular(among, upper)


@final
class Transposed(Composed):
    """Mᵀ."""

    def __init__(self, inner: Operator) -> None:
        super().__init__([*inner.shape[:-2], inner.shape[-1], inner.shape[-2]], inner)
        self._inner = inner

    def left(self, v: Tensor) -> Tensor:
        return self._inner.right(v)

    def right(self, x: Tensor) -> Tensor:
        return self._inner.left(x)

    def part(self, rows: slice, columns: slice) -> Operator:
        return Transposed(self._inner.part(columns, rows))

    def dense(self) -> Tensor:
        return self._inner.dense().mT

    def diagonal(self) -> Tensor:
        return self._inner.diagonal()

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return self._inner.triangular(among, not upper)

    def transposed(self) -> Operator:
        return self._inner


@final
class PlusOuter(Composed):
    """M + column rowᵀ."""

    def __init__(self, inner: Operator, column: Tensor, row: Tensor) -> None:
        super().__init__(inner.shape, inner, column, row)
        self._inner, self._column, self._row = inner, column, row

    def left(self, v: Tensor) -> Tensor:
        return self._inner.left(v) + (v * self._column[..., None, :]).sum(-1, keepdim=True) * self._row[..., None, :]

    def right(self, x: Tensor) -> Tensor:
        return self._inner.right(x) + (x * self._row[..., None, :]).sum(-1, keepdim=True) * self._column[..., None, :]

    def part(self, rows: slice, columns: slice) -> Operator:
        return PlusOuter(self._inner.part(rows, columns), self._column[..., rows], self._row[..., columns])

    def dense(self) -> Tensor:
        return Dense(self._inner.dense()).plus(self._column, self._row).dense()

    def diagonal(self) -> Tensor:
        return self._inner.diagonal() + self._column * self._row

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return self._inner.triangular(among, upper) & ~(self._column.bool() & among).any(-1)


@final
class HeadMean(Composed):
    """Σ_h weights_h M_h."""

    def __init__(self, inner: Operator, weights: Tensor) -> None:
        super().__init__([inner.shape[0], *inner.shape[2:]], inner, weights)
        self._inner, self._weights = inner, weights.to(inner.dtype)

    def _over_heads(self, v: Tensor) -> Tensor:
        return v[:, None] * self._weights[:, :, None, None]

    def left(self, v: Tensor) -> Tensor:
        return self._inner.left(self._over_heads(v)).sum(1)

    def right(self, x: Tensor) -> Tensor:
        return self._inner.right(self._over_heads(x)).sum(1)

    def part(self, rows: slice, columns: slice) -> Operator:
        return HeadMean(self._inner.part(rows, columns), self._weights)

    def dense(self) -> Tensor:
        return Dense(self._inner.dense()).head_mean(self._weights).dense()

    @full_precision()
    def diagonal(self) -> Tensor:
        return torch.einsum("bh,bhi->bi", self._weights, self._inner.diagonal())

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return self._inner.triangular(among[:, None].expand(self._inner.shape[:-1]), upper).all(1)


@final
class Sum(Composed):
    """The sum of several matrices."""

    def __init__(self, inners: Sequence[Operator]) -> None:
        super().__init__(inners[0].shape, *inners)
        self._inners = inners

    def left(self, v: Tensor) -> Tensor:
        return reduce(torch.add, [inner.left(v) for inner in self._inners])

    def right(self, x: Tensor) -> Tensor:
        return reduce(torch.add, [inner.right(x) for inner in self._inners])

    def part(self, rows: slice, columns: slice) -> Operator:
        return Sum([inner.part(rows, columns) for inner in self._inners])

    def dense(self) -> Tensor:
        return reduce(torch.add, (inner.dense() for inner in self._inners))

    def diagonal(self) -> Tensor:
        return reduce(torch.add, [inner.diagonal() for inner in self._inners])

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return torch.stack([inner.triangular(among, upper) for inner in self._inners]).all(0)
