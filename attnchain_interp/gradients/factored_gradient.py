"""The gradient of an attention map in factors, as its map is in queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from attnchain_interp.operators import float32_or_wider, full_precision
from attnchain_interp.reprs import with_fields


@final
@dataclass(frozen=True)
class FactoredGradient:
    """The gradient ∇A = ∇O Vᵀ of a score by a map A that mixes values V into O = A V, without a tensor of the size of the map.

    Attributes:
        outputs: ∇O (batch, head, query, dim), the gradient by the mixed values.
        values: V (batch, key head, key, dim). Each key head serves head / key head heads.
    """

    outputs: Tensor
    values: Tensor

    def __repr__(self) -> str:
        return with_fields(self)

    def among(self, tokens: slice) -> FactoredGradient:
        """Returns the gradient by the part of the map that leads from `tokens` to `tokens`."""
        return FactoredGradient(self.outputs[:, :, tokens], self.values[:, :, tokens])

    @full_precision()
    def maps(self, queries: slice = slice(None), keys: slice = slice(None)) -> Tensor:
        """Returns ∇A (batch, head, query, key) of some queries and keys, in float32 or wider."""
        outputs, values = float32_or_wider(self.outputs[:, :, queries]), float32_or_wider(self.values[:, :, keys])
        groups = (values.shape[1], outputs.shape[1] // values.shape[1])
        return (outputs.unflatten(1, groups) @ values[:, :, None].mT).flatten(1, 2)
