"""Non-negative matrices over tokens that are known by their products: what a chain is made of, with or without its map.

A chain needs products with vectors, not the n × n map. `Dense` holds the map. `factored_map.FactoredMap` holds queries
and keys. Scaling rows and columns, transposing, adding a rank-one term and averaging over heads or layers give operators
again: `Dense` carries them out at once, the others remember them and apply them to each product (`composed`).

Vectors lie along the last axis, m of them side by side: (…, m, token).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Final, final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.exact_products import exact_products

_ROWS: Final = 128  # of a map that are looked at together


@contextmanager
def full_precision() -> Iterator[None]:
    """Turns `torch.autocast` off while open, on the CPU and on the accelerator. Decorates functions too.

    A model runs under its user's autocast and `torch.set_float32_matmul_precision`. The arithmetic of its chains stays in
    float32 or better: see also `ExactProducts`.

    >>> with torch.autocast("cpu", torch.bfloat16), full_precision():
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as turned_off, exact_products:
        for device in {"cpu", "cpu" if accelerator is None else accelerator.type}:
            if torch.is_autocast_enabled(device):
                turned_off.enter_context(torch.autocast(device, enabled=False))
        yield


def float32_or_wider(tensor: Tensor) -> Tensor:
    """Returns the tensor in float32. Returns a float64 tensor as it is."""
    return tensor.to(wide_dtype(tensor.dtype))


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns float32 for 16-bit and 32-bit floats and float64 for float64.

    >>> wide_dtype(torch.bfloat16), wide_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


class Operator(ABC):
    """A batch of non-negative matrices M (…, row, column): square over the tokens, or a part of such a matrix.

    Attributes:
        shape: (…, row, column).
        dtype, device: of the products.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def left(self, v: Tensor) -> Tensor:
        """Returns v M (…, m, column) for v (…, m, row)."""

    @abstractmethod
    def right(self, x: Tensor) -> Tensor:
        """Returns M x (…, m, row) for x (…, m, column). The m vectors are columns, written as rows."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """Returns the entries M_ii (…, token)."""

    @abstractmethod
    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        """Returns whether every entry from an earlier to a later token is zero, (…) bool.

        Args:
            among: (…, token) bool. Only entries between these tokens are looked at.
            upper: look at entries from a later to an earlier token instead. Causal attention is triangular with
                `upper=False`.
        """

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Says whether a product can be differentiated with respect to the matrix."""

    @abstractmethod
    def part(self, rows: slice, columns: slice) -> Operator:
        """Returns some rows and columns."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Builds the matrix (…, row, column)."""

    @abstractmethod
    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Operator:
        """Returns diag(rows) M diag(columns), for factors (…, token)."""

    @abstractmethod
    def transposed(self) -> Operator:
        """Returns Mᵀ."""

    @abstractmethod
    def plus(self, column: Tensor, row: Tensor) -> Operator:
        """Returns M + column rowᵀ, for vectors (…, token)."""

    @abstractmethod
    def head_mean(self, weights: Tensor) -> Operator:
        """Returns Σ_h weights_h M_h (batch, token, token) for M (batch, head, token, token) and weights (batch, head)."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Builds some rows (…, stop − start, column)."""
        return self.part(slice(start, stop), slice(None)).dense()

    def columns(self, start: int, stop: int) -> Tensor:
        """Builds some columns, written as rows: (…, stop − start, row)."""
        return self.part(slice(None), slice(start, stop)).dense().mT

    def conditioned(self, states: Tensor) -> Operator:
        """Returns the matrix with each row scaled so that its entries at `states` (…, token) sum to one.

        A row that is not a state and sends nothing to the states (padding) becomes uniform over the states. No walk comes
        to it.

        Raises:
            AttentionError: there is no state, or a state sends nothing to any state.
        """
        kept = self.sent_to(states)
        empty = empty_rows(kept, states)
        scaled = self.scaled(torch.where(empty, 0, 1 / torch.where(empty, 1, kept)))
        return scaled.plus(empty.to(self.dtype), uniform_over(states, self.dtype)) if bool(empty.any()) else scaled

    def sent_to(self, states: Tensor) -> Tensor:
        """Returns the sum of each row's entries at `states` (…, column): (…, row)."""
        return self.right(states.to(self.dtype)[..., None, :])[..., 0, :]


def uniform_over(states: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns equal probability on every state (…, token)."""
    inside = states.to(dtype)
    return inside / inside.sum(-1, keepdim=True)


def empty_rows(kept: Tensor, states: Tensor) -> Tensor:
    """Returns the rows (…, token) bool whose mass `kept` (…, token) on the states is zero or NaN."""
    if not bool(states.any(-1).all()):
        raise AttentionError("a restriction leaves no state.", "Keep at least one token in every example.")
    empty = ~(kept > 0)
    lost = empty & states
    if bool(lost.any()):
        where = lost.nonzero()[0].tolist()
        raise AttentionError(
            f"token {where[-1]} (index {where}) sends all its attention to tokens outside the chain, or has every key masked,"
            " so its row cannot be renormalised.",
            "Keep one of the tokens it attends to, or leave this token out too.",
        )
    return empty


@final
class Dense(Operator):
    """A batch of matrices `matrix` (…, row, column). Every operation is carried out at once."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    @full_precision()
    def left(self, v: Tensor) -> Tensor:
        return v @ self.matrix

    @full_precision()
    def right(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT

    def part(self, rows: slice, columns: slice) -> Dense:
        return Dense(self.matrix[..., rows, columns])

    def dense(self) -> Tensor:
        return self.matrix

    def diagonal(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        matrix = self.matrix.detach().mT if upper else self.matrix.detach()
        middle = self.shape[-1] // 2  # one row first: nearly every map fails there, at no cost
        ahead = matrix[..., middle, middle + 1 :].masked_fill(~among[..., middle + 1 :], 0)
        possible = ~(ahead.bool().any(-1) & among[..., middle])
        if bool(possible.any()):
            every = bool(possible.all())
            inside = matrix if every else matrix[possible]
            if not bool(among.all()):
                counts = among if every else among[possible]
                inside = inside.masked_fill(~(counts[..., :, None] & counts[..., None, :]), 0)  # padding's rows may be NaN
            parts = (inside[..., a : a + _ROWS, a:].triu(1) for a in range(0, self.shape[-1], _ROWS))
            possible[possible.clone()] = ~reduce(torch.logical_or, (part.flatten(-2).any(-1) for part in parts)).flatten()
        return possible

    @property
    def requires_grad(self) -> bool:
        return self.matrix.requires_grad

    def scaled(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Dense:
        matrix = self.matrix if rows is None else self.matrix * rows[..., :, None]
        return Dense(matrix if columns is None else torch.where(columns[..., None, :] != 0, matrix * columns[..., None, :], 0))

    def transposed(self) -> Dense:
        return Dense(self.matrix.mT)

    def plus(self, column: Tensor, row: Tensor) -> Dense:
        return Dense(self.matrix + column[..., :, None] * row[..., None, :])

    @full_precision()
    def head_mean(self, weights: Tensor) -> Dense:
        return Dense(torch.einsum("bh,bhij->bij", weights, self.matrix))

    def conditioned(self, states: Tensor) -> Dense:
        every = bool(states.all())
        inside = self.matrix if every else torch.where(states[..., None, :], self.matrix, 0)
        kept = inside.sum(-1)
        empty = empty_rows(kept, states)
        if not bool(empty.any()):
            return Dense(self.matrix / kept[..., None])
        filler = uniform_over(states, self.dtype)[..., None, :]
        kept = kept.masked_fill(empty, 1)  # a division by zero would be a gradient of NaN
        return Dense(torch.where(empty[..., None], filler, self.matrix / kept[..., None]))
