"""Which layers a selection names."""

from __future__ import annotations

from collections.abc import Sequence

from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError

LayerSelection = str | int | slice | Sequence[int | str]


def select_layers(names: Sequence[str], layers: LayerSelection) -> list[str]:
    """Returns the names of the selected layers. A capture uses it before a forward, to record only these.

    Args:
        names: of all layers, from the first to the last.
        layers: "all", a name, a number, a slice, or a list of names and numbers.

    Raises:
        AttentionError: a layer does not exist, or nothing is selected.
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
        raise AttentionError(f"layers={layers!r} selects none of the {len(names)} layers.", 'Use layers="all" for all.')
    for name in chosen:
        layer_name(names, name)
    return chosen


def in_order(names: Sequence[str], layers: LayerSelection) -> list[str]:
    """Returns the names of the selected layers in the order of `names`, however they were selected.

    >>> in_order(["a", "b", "c"], [-1, "a"])
    ['a', 'c']
    """
    chosen = set(select_layers(names, layers))
    return [name for name in names if name in chosen]


def names_given(layers: LayerSelection) -> bool:
    """Returns whether a selection of layers is one by names alone, which says nothing about other layers.

    >>> names_given(["a", "b"]), names_given("all"), names_given(-1)
    (True, False, False)
    """
    names = [layers] if isinstance(layers, str) else layers if isinstance(layers, list | tuple) else []
    return bool(names) and layers != "all" and all(isinstance(name, str) for name in names)


def layer_name(names: Sequence[str], layer: int | str) -> str:
    """Returns the name of a layer given by name or by number, counted from either end."""
    if isinstance(layer, str):
        if layer in names:
            return layer
        raise AttentionError(f"there is no layer {layer!r}.", f"The layers are {', '.join(names)}.")
    if not hasattr(layer, "__index__"):
        cause = f"layer is of type {type(layer).__name__}; it must be a name or a number."
        raise AttentionError(cause, f"The layers are {', '.join(names)}.")
    return names[check_position("layer", layer, len(names))]
