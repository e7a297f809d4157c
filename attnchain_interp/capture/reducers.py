"""What may be kept of a layer's attention instead of its maps: `capture(model, inputs, keep=[reducers])`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, final

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, check_damping
from attnchain_interp.chain.functionals import bounce, second_eigenvalue, stationary
from attnchain_interp.store.starts import Start, start_distribution
from attnchain_interp.store.tokens import TokenLayout, TokenSelection

_TILE: Final = 2**22


class Reducer(Protocol):
    """A small result per head of a layer.

    Attributes:
        starts_anywhere: whether it needs the rows of tokens that are no states, too.
    """

    starts_anywhere: ClassVar[bool]

    @property
    def name(self) -> str:
        """What the result is called."""
        ...

    @property
    def tokens(self) -> TokenSelection:
        """The states of the chains, as in `TokenLayout.select`."""
        ...

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        """(batch, head, …) of the chains (batch, head, token, token) of one layer's heads.

        `layout` is of the tokens of the chains: all of the model's, or the states alone.
        """
        ...


@final
@dataclass(frozen=True)
class StationaryVectors:
    """The stationary vector of every head: (batch, layer, head, token). See `stationary`."""

    damping: float = 0.99
    tokens: TokenSelection = None
    name: str = "stationary"
    starts_anywhere: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_damping(self.damping)

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return stationary(heads, self.damping)


@final
@dataclass(frozen=True)
class SecondEigenvalues:
    """|λ₂| of every head: (batch, layer, head). See `second_eigenvalue`."""

    tokens: TokenSelection = None
    name: str = "second_eigenvalue"
    starts_anywhere: ClassVar[bool] = False

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return second_eigenvalue(heads)


@final
@dataclass(frozen=True, eq=False)
class Bounces:
    """Where a walk over every head is after some steps: (batch, layer, head, token). See `bounce`.

    `start` as in `MultiBounce`: "class", "center", "uniform", a token by number, or distributions.
    """

    start: Start = "class"
    steps: int = 2
    tokens: TokenSelection = None
    name: str = "bounce"
    starts_anywhere: ClassVar[bool] = True

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(heads, start_distribution(heads, layout, self.start), self.steps)


@final
@dataclass(frozen=True)
class ColumnSums:
    """The column sums of every head's map, divided by the number of states: (batch, layer, head, token)."""

    tokens: TokenSelection = None
    name: str = "column_sum"
    starts_anywhere: ClassVar[bool] = False

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(heads, heads.uniform, 1)


@final
@dataclass(frozen=True)
class ClassRows:
    """The row of the class token of every head, over the states: (batch, layer, head, token)."""

    tokens: TokenSelection = None
    name: str = "class_row"
    starts_anywhere: ClassVar[bool] = True

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(heads, start_distribution(heads, layout, "class"), 1)


@final
@dataclass(frozen=True)
class Entropies:
    """The entropy in nats of every head's rows, averaged over the states: (batch, layer, head)."""

    tokens: TokenSelection = None
    name: str = "entropy"
    starts_anywhere: ClassVar[bool] = False

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        n, total = len(heads), torch.zeros(heads.states.shape[:-1], dtype=heads.dtype, device=heads.device)
        size = max(1, _TILE // heads.states.numel())
        for start in range(0, n, size):
            stop = min(start + size, n)
            entropy = torch.special.entr(heads.transitions.rows(start, stop)).sum(-1)
            total = total + torch.where(heads.states[..., start:stop], entropy, 0).sum(-1)
        return total / heads.states.sum(-1)
