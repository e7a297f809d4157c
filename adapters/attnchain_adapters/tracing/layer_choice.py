"""The layers of a traced model, chosen as `attnchain_interp.capture` chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from attnchain_adapters.tracing.shown_attention import attention_modules

LayerChoice = str | int | slice | Sequence[Any] | None


def chosen_layers(model: Any, layers: LayerChoice) -> list[Any]:
    """Returns the attention modules that are meant, in forward order.

    Args:
        model: the nnsight model whose trace this is, or a part of it.
        layers: None or "all"; a number, counted from either end; a name, as in a store; a slice; or a list of numbers, names
            and nnsight modules. A list with a module that is not known here keeps its order.

    Raises:
        ValueError: a layer that does not exist.
    """
    known = attention_modules(model)
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return known
    if isinstance(layers, slice):
        layers = known[layers]
    several = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    chosen = {envoy.path: envoy for envoy in (layer_of(model, known, layer) for layer in several)}
    places = {envoy.path: place for place, envoy in enumerate(known)}
    if chosen.keys() <= places.keys():
        return [chosen[path] for path in sorted(chosen, key=places.__getitem__)]
    return list(chosen.values())


def layer_of(model: Any, known: Sequence[Any], layer: Any) -> Any:
    """Returns the module of a number or a name, or the nnsight module itself."""
    if hasattr(layer, "_module"):
        return layer
    if not isinstance(layer, bool) and hasattr(layer, "__index__") and -len(known) <= index(layer) < len(known):
        return known[index(layer)]
    by_name = {envoy.path.removeprefix(f"{model.path}."): envoy for envoy in known} | {envoy.path: envoy for envoy in known}
    if isinstance(layer, str) and layer in by_name:
        return by_name[layer]
    those = ", ".join(envoy.path.removeprefix(f"{model.path}.") for envoy in known)
    raise ValueError(
        f"there is no layer {layer!r}. {len(known)} attention modules of {type(model._module).__name__} are known here:"
        f" {those or 'none'}. Give a number from {-len(known)} to {len(known) - 1}, one of these names, or an nnsight module."
    )
