"""One layer's attention, and how layers are named and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.dense import Dense
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Operator
from attnchain_interp.operators.precision import float32_or_wider

LayerSelection = str | int | slice | Sequence[int | str]


@final
@dataclass(frozen=True)
class LayerAttention:
    """The attention of one layer, as maps or as the factors they are made of.

    Attributes:
        name: as the model calls the module.
        attention: maps (batch, head, query, key), or `Factors`. Of cross-attention and pooled attention they are not square.
        sink: the softmax had a sink that was dropped, so the rows of the maps sum to less than one.
    """

    name: str
    attention: Tensor | Factors
    sink: bool = False

    def __repr__(self) -> str:
        batch, heads, queries, keys = self.attention.shape
        size = f"{keys} tokens" if queries == keys else f"{queries} queries × {keys} keys"
        kind = "factors" if isinstance(self.attention, Factors) else "maps"
        held = f"{kind}, {str(self.dtype).removeprefix('torch.')} on {self.device}"
        return f"LayerAttention({self.name!r}: batch {batch}, {heads} heads × {size}, {held})"

    @property
    def maps(self) -> Tensor:
        """(batch, head, query, key); factors are multiplied out here."""
        return self.attention.maps() if isinstance(self.attention, Factors) else self.attention

    @property
    def heads(self) -> int:
        return self.attention.shape[1]

    @property
    def device(self) -> torch.device:
        return self.attention.device

    @property
    def dtype(self) -> torch.dtype:
        return self.attention.query.dtype if isinstance(self.attention, Factors) else self.attention.dtype

    @property
    def below_one(self) -> bool:
        """Whether rows sum to less than one, because of a sink."""
        return self.sink or (isinstance(self.attention, Factors) and self.attention.sinks is not None)

    def to(self, device: torch.device | str) -> LayerAttention:
        return LayerAttention(self.name, self.attention.to(device), self.sink)

    def transitions(self) -> Operator:
        """The map of each head (batch, head, token, token) in float32 or better, not restricted to anything.

        Raises:
            AttentionError: queries and keys are of different tokens.
        """
        if self.attention.shape[-1] != self.attention.shape[-2]:
            raise AttentionError(
                f"layer {self.name!r} leads from {self.attention.shape[-2]} queries to {self.attention.shape[-1]} other tokens"
                " (cross-attention, or a pooling head), which is no chain. Its rows are starts of a walk over the keys' own"
                " chain: bounce(store.chain(), cross.maps()[:, layer, head, query])."
            )
        if isinstance(self.attention, Factors):
            return FactoredMap(self.attention)
        return Dense(float32_or_wider(self.attention))

    def conditioned(self, states: Tensor) -> Operator:
        """The same with rows that sum to one over `states` (batch, token), as `Operator.conditioned`."""
        return self.transitions().conditioned(self.over_heads(states))

    def causal(self, states: Tensor) -> bool:
        """Whether no token among `states` (batch, token) attends to a later one, in any head."""
        if self.attention.shape[-1] != self.attention.shape[-2]:
            return False
        return bool(self.transitions().triangular(self.over_heads(states), upper=False).all())

    def over_heads(self, states: Tensor) -> Tensor:
        """`states` (batch, token) once for every head: (batch, head, token)."""
        return states.to(self.device)[:, None].expand(self.attention.shape[:-1])


def select_layers(names: Sequence[str], layers: LayerSelection) -> list[str]:
    """The names meant by a layer selection; also used before a forward, to watch only these.

    Raises:
        AttentionError: a layer that does not exist, or an empty selection.
    """
    if isinstance(layers, str):
        chosen = list(names) if layers == "all" else [layers]
    elif isinstance(layers, slice):
        chosen = list(names)[layers]
    elif isinstance(layers, Sequence):
        chosen = list(dict.fromkeys(layer_name(names, layer) for layer in layers))
    else:
        chosen = [layer_name(names, layers)]
    if not chosen:
        raise AttentionError(f"layers={layers!r} selects none of the {len(names)} layers.")
    for name in chosen:
        layer_name(names, name)
    return chosen


def layer_name(names: Sequence[str], layer: int | str) -> str:
    """The name of a layer given by name or by number, counted from either end.

    Raises:
        AttentionError: there is no such layer.
    """
    if isinstance(layer, str):
        if layer in names:
            return layer
        raise AttentionError(f"there is no layer {layer!r}; the layers are {', '.join(names)}.")
    if isinstance(layer, bool) or not -len(names) <= layer < len(names):
        raise AttentionError(f"layer {layer!r} does not exist; there are {len(names)}, numbered 0 to {len(names) - 1}.")
    return names[layer]
