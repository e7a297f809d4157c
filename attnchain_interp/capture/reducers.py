"""Small results that a capture keeps instead of maps: `capture(model, inputs, keep=[reducers])`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, final

import torch
from torch import Tensor

from attnchain_interp.chain import Chain, bounce, second_eigenvalue, stationary
from attnchain_interp.chain.chain import check_damping
from attnchain_interp.chain.transformations import balanced_by, check_balanced
from attnchain_interp.store import Start, TokenLayout, TokenSelection
from attnchain_interp.store.starts import start_distribution

_TILE: Final = 2**22


class Reducer(Protocol):
    """Reduces the chain of each head of a layer to a small result.

    Attributes:
        starts_anywhere: whether the reducer also needs the rows of tokens that are not states.
    """

    starts_anywhere: ClassVar[bool]

    @property
    def name(self) -> str:
        """Returns the name of the result."""
        ...

    @property
    def tokens(self) -> TokenSelection:
        """Returns the states of the chains. See `TokenLayout.select`."""
        ...

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        """Returns the result (batch, head, …) of the chains (batch, head, token, token) of a layer's heads.

        Args:
            heads: the chains.
            layout: the layout of all tokens of the model.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _OfTokens:
    """The fields of a reducer that has no other arguments."""

    tokens: TokenSelection = None
    name: str = ""
    starts_anywhere: ClassVar[bool] = False


@final
@dataclass(frozen=True, kw_only=True)
class StationaryVectors:
    """Keeps the stationary vector of every head (batch, layer, head, token). See `stationary`.

    Jumps lead to every state, also in a decoder, where those of `TokenRank` lead to the last token. `balanced` balances the
    chain of each head, or is the strength of it. See `balance`.
    """

    damping: float = 0.99
    tokens: TokenSelection = None
    name: str = "stationary"
    balanced: bool | float = False
    starts_anywhere: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_damping(self.damping)
        check_balanced(self.balanced)

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return stationary(balanced_by(heads, self.balanced), self.damping)


@final
@dataclass(frozen=True, kw_only=True)
class SecondEigenvalues(_OfTokens):
    """Keeps |λ₂| of every head (batch, layer, head). See `second_eigenvalue`."""

    name: str = "second_eigenvalue"

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return second_eigenvalue(heads)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Bounces:
    """Keeps the distribution (batch, layer, head, token) of a walk over every head after some steps. See `bounce`.

    `start` is that of `MultiBounce`. `balanced` balances the chain of each head, or is the strength of it. See `balance`.
    """

    start: Start | None = None
    steps: int = 2
    tokens: TokenSelection = None
    name: str = "bounce"
    balanced: bool | float = False
    starts_anywhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_balanced(self.balanced)

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(balanced_by(heads, self.balanced), start_distribution(heads, layout, self.start), self.steps)


@final
@dataclass(frozen=True, kw_only=True)
class ColumnSums(_OfTokens):
    """Keeps the column sums of every head's map, divided by the number of states: (batch, layer, head, token)."""

    name: str = "column_sum"

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(heads, heads.uniform, 1)


@final
@dataclass(frozen=True, kw_only=True)
class ClassRows(_OfTokens):
    """Keeps the row of the class token of every head, over the states: (batch, layer, head, token)."""

    name: str = "class_row"
    starts_anywhere: ClassVar[bool] = True

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        return bounce(heads, start_distribution(heads, layout, "class"), 1)


@final
@dataclass(frozen=True, kw_only=True)
class Entropies(_OfTokens):
    """Keeps the entropy in nats of every head's rows, averaged over the states: (batch, layer, head)."""

    name: str = "entropy"

    def reduce(self, heads: Chain, layout: TokenLayout) -> Tensor:
        n, total = len(heads), torch.zeros(heads.states.shape[:-1], dtype=heads.dtype, device=heads.device)
        size = max(1, _TILE // heads.states.numel())
        for start in range(0, n, size):
            stop = min(start + size, n)
            entropy = torch.special.entr(heads.transitions.rows(start, stop)).sum(-1)
            total = total + torch.where(heads.states[..., start:stop], entropy, 0).sum(-1)
        return total / heads.states.sum(-1)
