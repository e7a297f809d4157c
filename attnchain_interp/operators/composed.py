"""Operators that remember how they are made of others, and apply it to each product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import final

import torch
from torch import Tensor

from attnchain_interp.operators.dense import Dense
from attnchain_interp.operators.operator import Operator


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


def mean(operators: Sequence[Operator]) -> Operator:
    """Returns the mean of matrices of one shape."""
    if len(operators) == 1:
        return operators[0]
    maps = [operator.matrix for operator in operators if isinstance(operator, Dense)]
    return Dense(_average(maps)) if len(maps) == len(operators) else Mean(operators)


def _average(parts: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, parts) / len(parts)


@final
class Scaled(Remembering):
    """diag(rows) M diag(columns)."""

    def __init__(self, inner: Operator, rows: Tensor | None, columns: Tensor | None) -> None:
        self._inner, self._rows, self._columns = inner, rows, columns
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device

    @staticmethod
    def _times(v: Tensor, factor: Tensor | None) -> Tensor:
        return v if factor is None else v * factor[..., None, :]

    def left(self, v: Tensor) -> Tensor:
        return self._times(self._inner.left(self._times(v, self._rows)), self._columns)

    def right(self, x: Tensor) -> Tensor:
        return self._times(self._inner.right(self._times(x, self._columns)), self._rows)

    def part(self, rows: slice, columns: slice) -> Operator:
        kept = (
            None if self._rows is None else self._rows[..., rows],
            None if self._columns is None else self._columns[..., columns],
        )
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

    @property
    def requires_grad(self) -> bool:
        factors = (self._rows, self._columns)
        return self._inner.requires_grad or any(factor is not None and factor.requires_grad for factor in factors)


@final
class Transposed(Remembering):
    """Mᵀ."""

    def __init__(self, inner: Operator) -> None:
        self._inner = inner
        self.shape = torch.Size([*inner.shape[:-2], inner.shape[-1], inner.shape[-2]])
        self.dtype, self.device = inner.dtype, inner.device

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

    @property
    def requires_grad(self) -> bool:
        return self._inner.requires_grad

    def transposed(self) -> Operator:
        return self._inner


@final
class PlusOuter(Remembering):
    """M + column rowᵀ."""

    def __init__(self, inner: Operator, column: Tensor, row: Tensor) -> None:
        self._inner, self._column, self._row = inner, column, row
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device

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

    @property
    def requires_grad(self) -> bool:
        return self._inner.requires_grad or self._column.requires_grad or self._row.requires_grad


@final
class HeadMean(Remembering):
    """Σ_h weights_h M_h."""

    def __init__(self, inner: Operator, weights: Tensor) -> None:
        self._inner, self._weights = inner, weights.to(inner.dtype)
        self.shape = torch.Size([inner.shape[0], *inner.shape[2:]])
        self.dtype, self.device = inner.dtype, inner.device

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

    def diagonal(self) -> Tensor:
        return torch.einsum("bh,bhi->bi", self._weights, self._inner.diagonal())

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        heads = among[:, None].expand(self._inner.shape[:-1])
        return self._inner.triangular(heads, upper).all(1)

    @property
    def requires_grad(self) -> bool:
        return self._inner.requires_grad or self._weights.requires_grad


@final
class Mean(Remembering):
    """The mean of several matrices."""

    def __init__(self, inners: Sequence[Operator]) -> None:
        self._inners = inners
        self.shape, self.dtype, self.device = inners[0].shape, inners[0].dtype, inners[0].device

    def left(self, v: Tensor) -> Tensor:
        return _average([inner.left(v) for inner in self._inners])

    def right(self, x: Tensor) -> Tensor:
        return _average([inner.right(x) for inner in self._inners])

    def part(self, rows: slice, columns: slice) -> Operator:
        return Mean([inner.part(rows, columns) for inner in self._inners])

    def dense(self) -> Tensor:
        return _average([inner.dense() for inner in self._inners])

    def diagonal(self) -> Tensor:
        return _average([inner.diagonal() for inner in self._inners])

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return torch.stack([inner.triangular(among, upper) for inner in self._inners]).all(0)

    @property
    def requires_grad(self) -> bool:
        return any(inner.requires_grad for inner in self._inners)
