"""Non-negative matrices over tokens, known by their products: what a chain is made of, with or without its map.

A chain needs products with vectors, not the n × n map. `Dense` holds the map; `factored.FactoredMap` holds queries and
keys. Scaling rows and columns, transposing, adding a rank-one term and averaging over heads or layers give operators
again: on `Dense` they are carried out at once, on anything else they are remembered and applied to each product.

Vectors lie along the last axis, m of them side by side: (…, m, token).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError


class Operator(ABC):
    """A batch of non-negative matrices M (…, row, column): square over the tokens, or a part of such.

    Attributes:
        shape: (…, row, column).
        dtype, device: of the products.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def left(self, v: Tensor) -> Tensor:
        """v M (…, m, column) for v (…, m, row)."""

    @abstractmethod
    def right(self, x: Tensor) -> Tensor:
        """M x (…, m, row) for x (…, m, column): the m vectors are columns, written as rows."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """(…, token): the entries M_ii."""

    @abstractmethod
    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        """(…) bool: whether every entry from an earlier to a later token (upper: from a later to an earlier) is zero.

        `among` (…, token) bool: only entries between these tokens are looked at. Causal attention is triangular with
        `upper=False`.
        """

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Whether a product can be differentiated with respect to the matrix."""

    @abstractmethod
    def part(self, rows: slice, columns: slice) -> Operator:
        """Some rows and columns."""

    @abstractmethod
    def dense(self) -> Tensor:
        """(…, row, column): the matrix, built."""

    def rows(self, start: int, stop: int) -> Tensor:
        """(…, stop − start, column): some rows, built."""
        return self.part(slice(start, stop), slice(None)).dense()

    def columns(self, start: int, stop: int) -> Tensor:
        """(…, stop − start, row): some columns, built and written as rows."""
        return self.part(slice(None), slice(start, stop)).dense().mT

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Operator:
        """diag(rows) M diag(columns), for factors (…, token)."""
        return Scaled(self, rows, columns)

    def transposed(self) -> Operator:
        return Transposed(self)

    def plus(self, column: Tensor, row: Tensor) -> Operator:
        """M + column rowᵀ, for vectors (…, token)."""
        return PlusOuter(self, column, row)

    def head_mean(self, weights: Tensor) -> Operator:
        """Σ_h weights_h M_h (batch, token, token), of M (batch, head, token, token) and weights (batch, head)."""
        return HeadMean(self, weights)

    def conditioned(self, states: Tensor) -> Operator:
        """The matrix with each row scaled so that what it sends to `states` (…, token) sums to one.

        Rows that are no states and send nothing there (padding) become uniform over the states: no walk comes to them.

        Raises:
            AttentionError: no state at all, or a state that sends nothing to any state.
        """
        kept = self.sent_to(states)
        empty = empty_rows(kept, states)
        scaled = self.scaled(torch.where(empty, 0, 1 / torch.where(empty, 1, kept)))
        return scaled.plus(empty.to(self.dtype), uniform_over(states, self.dtype)) if bool(empty.any()) else scaled

    def sent_to(self, states: Tensor) -> Tensor:
        """(…, row): what each row sends to `states` (…, column)."""
        return self.right(states.to(self.dtype)[..., None, :])[..., 0, :]


def uniform_over(states: Tensor, dtype: torch.dtype) -> Tensor:
    """(…, token): equal probability on every state."""
    inside = states.to(dtype)
    return inside / inside.sum(-1, keepdim=True)


def empty_rows(kept: Tensor, states: Tensor) -> Tensor:
    """(…, token) bool: rows whose mass `kept` (…, token) on the states is zero or NaN; none may be a state's.

    Raises:
        AttentionError: no state at all, or a state that sends nothing to any state.
    """
    if not bool(states.any(-1).all()):
        raise AttentionError("a restriction leaves no state; keep at least one token in every example.")
    empty = ~(kept > 0)
    lost = empty & states
    if bool(lost.any()):
        where = lost.nonzero()[0].tolist()
        raise AttentionError(
            f"token {where[-1]} (index {where}) sends all its attention to tokens outside the chain, or has every key masked,"
            " so its row cannot be renormalised. Keep one of the tokens it attends to, or leave this token out too."
        )
    return empty


def mean(operators: Sequence[Operator]) -> Operator:
    """The mean of matrices of one shape."""
    if len(operators) == 1:
        return operators[0]
    maps = [operator.matrix for operator in operators if isinstance(operator, Dense)]
    return Dense(_average(maps)) if len(maps) == len(operators) else Mean(operators)


def _average(parts: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, parts) / len(parts)


@final
class Dense(Operator):
    """A matrix that is held as it is."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    def left(self, v: Tensor) -> Tensor:
        return v @ self.matrix

    def right(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT

    def part(self, rows: slice, columns: slice) -> Operator:
        return Dense(self.matrix[..., rows, columns])

    def dense(self) -> Tensor:
        return self.matrix

    def diagonal(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        matrix = self.matrix.detach().mT if upper else self.matrix.detach()
        middle = self.shape[-1] // 2  # one row first: nearly every map fails there, and costs nothing
        ahead = matrix[..., middle, middle + 1 :].masked_fill(~among[..., middle + 1 :], 0)
        possible = ~(ahead.bool().any(-1) & among[..., middle])
        if bool(possible.any()):
            every = bool(possible.all())
            inside = matrix if every else matrix[possible]
            if not bool(among.all()):
                counts = among if every else among[possible]
                inside = inside.masked_fill(~(counts[..., :, None] & counts[..., None, :]), 0)  # padding's rows may be NaN
            possible[possible.clone()] = ~inside.triu(1).flatten(-2).any(-1).flatten()
        return possible

    @property
    def requires_grad(self) -> bool:
        return self.matrix.requires_grad

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Operator:
        matrix = self.matrix if rows is None else self.matrix * rows[..., :, None]
        return Dense(matrix if columns is None else torch.where(columns[..., None, :] != 0, matrix * columns[..., None, :], 0))

    def transposed(self) -> Operator:
        return Dense(self.matrix.mT)

    def plus(self, column: Tensor, row: Tensor) -> Operator:
        return Dense(self.matrix + column[..., :, None] * row[..., None, :])

    def head_mean(self, weights: Tensor) -> Operator:
        return Dense(torch.einsum("bh,bhij->bij", weights, self.matrix))

    def conditioned(self, states: Tensor) -> Operator:
        every = bool(states.all())
        inside = self.matrix if every else torch.where(states[..., None, :], self.matrix, 0)
        kept = inside.sum(-1)
        empty = empty_rows(kept, states)
        if not bool(empty.any()):
            return Dense(self.matrix / kept[..., None])
        filler = uniform_over(states, self.dtype)[..., None, :]
        return Dense(torch.where(empty[..., None], filler, self.matrix / kept[..., None]))


@final
class Scaled(Operator):
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
class Transposed(Operator):
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
class PlusOuter(Operator):
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
class HeadMean(Operator):
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
class Mean(Operator):
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
