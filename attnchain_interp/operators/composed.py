"""Operators that remember how they are made of others, and apply it to each product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import final, overload

import torch
from torch import Tensor

from attnchain_interp.operators.operator import Dense, Operator, full_precision

Pairs = Sequence[tuple[Tensor | None, Tensor | None]]


class Remembering(Operator):
    """An operator whose matrix is not held: operations on it are remembered, and `dense` is a new tensor each time."""

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Operator:
        return Scaled(self, [(rows, columns)])

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
    if len(maps) == len(operators):
        return Dense(reduce(torch.add, maps))
    scaled = [operator for operator in operators if isinstance(operator, Scaled)]
    if len(scaled) == len(operators) and all(operator.inner is scaled[0].inner for operator in scaled):
        return Scaled(scaled[0].inner, [pair for operator in scaled for pair in operator.pairs])
    return Sum(operators)


@overload
def _times(value: Tensor, factor: Tensor | None) -> Tensor: ...
@overload
def _times(value: Tensor | None, factor: Tensor | None) -> Tensor | None: ...
def _times(value: Tensor | None, factor: Tensor | None) -> Tensor | None:
    """Returns value · factor, where None is ones."""
    if value is None or factor is None:
        return factor if value is None else value
    return value * factor


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
    """Σ_q diag(rows_q) M diag(columns_q), whose products take one product with M.

    Args:
        pairs: (rows_q, columns_q), tensors (…, token). None is ones.
    """

    def __init__(self, inner: Operator, pairs: Pairs) -> None:
        super().__init__(inner.shape, inner, *(factor for pair in pairs for factor in pair))
        self.inner, self.pairs = inner, pairs

    def left(self, v: Tensor) -> Tensor:
        return self._moved(self.inner.left, v, self.pairs)

    def right(self, x: Tensor) -> Tensor:
        return self._moved(self.inner.right, x, [(columns, rows) for rows, columns in self.pairs])

    @staticmethod
    def _moved(product: Callable[[Tensor], Tensor], v: Tensor, pairs: Pairs) -> Tensor:
        """Returns the sum of the products of v · before, times after, for all pairs (before, after)."""
        along = [[None if factor is None else factor[..., None, :] for factor in pair] for pair in pairs]
        parts = torch.broadcast_tensors(*(_times(v, before) for before, _ in along))  # v may be one for a whole batch
        found = product(torch.cat(parts, -2)).split(v.shape[-2], -2)
        return reduce(torch.add, [_times(part, after) for part, (_, after) in zip(found, along, strict=True)])

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Scaled:
        return Scaled(self.inner, [(_times(r, rows), _times(c, columns)) for r, c in self.pairs])

    def part(self, rows: slice, columns: slice) -> Scaled:
        kept = [(None if r is None else r[..., rows], None if c is None else c[..., columns]) for r, c in self.pairs]
        return Scaled(self.inner.part(rows, columns), kept)

    def dense(self) -> Tensor:
        dense, weights = self.inner.dense(), self._weights()
        return reduce(torch.mul if torch.is_grad_enabled() else Tensor.mul_, weights, dense)

    def _weights(self) -> list[Tensor]:
        """Returns the tensors that the entries are multiplied by."""
        pairs = [(None if r is None else r[..., :, None], None if c is None else c[..., None, :]) for r, c in self.pairs]
        if len(pairs) == 1:
            return [factor for factor in pairs[0] if factor is not None]
        one = torch.ones((), dtype=self.dtype, device=self.device)
        return [reduce(torch.add, [one if (weight := _times(*pair)) is None else weight for pair in pairs])]

    def diagonal(self) -> Tensor:
        diagonal = self.inner.diagonal()
        return reduce(torch.add, [_times(_times(diagonal, rows), columns) for rows, columns in self.pairs])

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return self.inner.triangular(among, upper)


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
