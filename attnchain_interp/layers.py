"""One layer's attention, and how layers are named and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from attnchain_interp.errors import AttentionError

LayerSelection = str | int | slice | Sequence[int | str]


@final
@dataclass(frozen=True)
class LayerAttention:
    """The attention of one layer: `name` as the model calls the module, `maps` (batch, head, query, key)."""

    name: str
    maps: Tensor

    @property
    def heads(self) -> int:
        return self.maps.shape[1]


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
