"""Matrices that are held as they are."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from attnchain_interp.operators.operator import Operator, empty_rows, uniform_over


@final
class Dense(Operator):
    """A batch of matrices `matrix` (…, row, column). Every operation is carried out at once."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    def left(self, v: Tensor) -> Tensor:
        return v @ self.matrix

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
            possible[possible.clone()] = ~inside.triu(1).flatten(-2).any(-1).flatten()
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
        return Dense(torch.where(empty[..., None], filler, self.matrix / kept[..., None]))
