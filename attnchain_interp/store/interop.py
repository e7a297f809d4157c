"""Maps from other tools (TransformerLens caches, lists of tensors), and maps for other tools (xarray, BertViz)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.checks import as_tensor, check_position, check_tensor
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.reprs import counted
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.roles import Role
from attnchain_interp.store.tokens import TokenLayout

if TYPE_CHECKING:
    from xarray import DataArray

CAPTURE: Final = "Capture it instead: attnchain_interp.capture(model, …) needs no other implementation."
GENERATION: Final = "Capture the generation instead: attnchain_interp.capture(model.generate, …)."


class NamedMaps(Protocol):
    """Maps by the name of their layer: a dict, or a TransformerLens `ActivationCache`."""

    def items(self) -> Iterable[tuple[str, Tensor]]: ...


def named_maps(maps: Sequence[Tensor] | NamedMaps | Tensor, names: Sequence[str] | None) -> list[tuple[str, Tensor]]:
    """Returns the name and the maps (batch, head, query, key) of each layer. See `AttentionStore.from_maps`."""
    _check_kind(maps)
    if not (names is None or isinstance(names, Iterable)):
        raise AttentionError(f"names is of type {type(names).__name__}; it must be a list.", "Pass one name for each layer.")
    if isinstance(maps, Tensor | Sequence):
        names = [f"layer.{i}" for i in range(len(maps))] if names is None else list(names)
        if len(names) != len(maps):
            raise AttentionError(
                f"names holds {counted(len(names), 'name')} for {counted(len(maps), 'layer')}.",
                "Pass one name for each layer.",
            )
        named = list(zip(names, maps, strict=True))
    else:
        named = list(_patterns(dict(maps.items())).items())
    if all(tensor is None for _, tensor in named):
        held = "None for each layer" if named else "empty"
        raise AttentionError(f'maps is {held}. A model under "sdpa" returns no attentions.', CAPTURE)
    if not all(isinstance(name, str) for name, _ in named):
        raise AttentionError(f"the layers are named {[name for name, _ in named]}.", "Name each layer by a string.")
    each = "[{} for layer in maps]" if isinstance(maps, Tensor | Sequence) else "{{name: {} for name, layer in maps.items()}}"
    for name, tensor in named:
        _check_layer(name, tensor, each)
    return named


def _check_kind(maps: Any) -> None:
    """Refuses what holds no maps, and one tensor or array of other axes."""
    if maps is None:
        raise AttentionError('maps is None. A model under "sdpa" returns no attentions.', CAPTURE)
    if "layer" in (getattr(maps, "dims", None) or ()):  # of `to_xarray`, which has the batch first
        raise AttentionError(
            f"maps is of type {type(maps).__name__} with the axes {', '.join(map(str, maps.dims))}; it must be a tensor, the"
            " layers first.",
            'Pass torch.from_numpy(maps.transpose("layer", ...).values), and names=maps.layer.values.tolist().',
        )
    if (shape := getattr(maps, "shape", None)) is not None and (isinstance(maps, Tensor) or as_tensor("", maps)):
        code = "maps" if isinstance(maps, Tensor) else as_tensor("maps", maps)
        if len(shape) != 5:
            missing = {2: "[None, None]", 3: "[None]"}.get(len(shape), "")
            raise AttentionError(
                f"maps is one {'tensor' if code == 'maps' else type(maps).__name__} of shape {tuple(shape)}; as one tensor it"
                " must be (layer, batch, head, query, key).",
                f"Put the maps (batch, head, query, key) of a single layer into a list: from_maps([{code}{missing}]).",
            )
        check_tensor("maps", maps, "(layer, batch, head, query, key)")
    held = maps if isinstance(maps, Mapping) else vars(maps) if hasattr(maps, "__dict__") else {}
    if "sequences" in held:
        raise AttentionError("maps is the output of generate().", GENERATION)
    if found := [name for name in held if str(name).endswith("attentions")]:
        raise AttentionError(f"maps is the output of a model, which holds {', '.join(found)}.", f"Pass output.{found[0]}.")
    if isinstance(maps, str) or not (isinstance(maps, Tensor | Sequence) or hasattr(maps, "items")):
        raise AttentionError(
            f"maps is of type {type(maps).__name__}; it must be a list or a mapping of tensors, or one tensor.",
            "Pass one tensor (batch, head, query, key) for each layer.",
        )


def _check_layer(name: str, tensor: Any, each: str) -> None:
    """Refuses what is not a tensor (batch, head, query, key). `each` is the code that changes every layer."""
    cause = f"maps must be tensors (batch, head, query, key), one per layer; {name!r} is of"
    if isinstance(tensor, tuple | list) and any(isinstance(part, Tensor) for part in tensor):
        raise AttentionError(f"{cause} type {type(tensor).__name__}, as generate() gives for each step.", GENERATION)
    if not isinstance(tensor, Tensor):
        code = as_tensor("layer", tensor)
        other = "Pass output.attentions of a model's output, and leave out layers that have no attention."
        raise AttentionError(
            f"{cause} type {type(tensor).__name__}.", f"Convert each: {each.format(code)}." if code else other
        )
    check_tensor(f"layer {name!r}", tensor, "(batch, head, query, key)")
    if tensor.is_meta:
        raise AttentionError(f"layer {name!r} is on the meta device, without numbers.", "Load the weights of its model.")
    if tensor.ndim != 4:
        missing = {2: "layer[None, None]", 3: "layer[None]"}.get(tensor.ndim)
        add = f" Maps that lack the batch, or the heads, need these axes: {each.format(missing)}." if missing else ""
        raise AttentionError(
            f"{cause} shape {tuple(tensor.shape)}.", f"Pass output.attentions, if this is another output of a model.{add}"
        )


def _patterns(activations: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the patterns of a TransformerLens cache by the name of the attention module; another mapping as it is."""
    if not any(".hook_" in str(name) for name in activations):
        return activations
    patterns = {name.removesuffix(".hook_pattern"): t for name, t in activations.items() if name.endswith(".hook_pattern")}
    if not patterns:
        raise AttentionError(
            f"maps is a TransformerLens cache of {len(activations)} activations without an attention pattern.",
            'Record them: model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern")).',
        )
    return {name: pattern[None] if pattern.ndim == 3 else pattern for name, pattern in patterns.items()}


def stacked(layers: Sequence[LayerAttention]) -> Tensor:
    """Returns the maps of layers as one tensor (batch, layer, head, query, key)."""
    if len({layer.attention.shape for layer in layers}) > 1:
        shapes = ", ".join(f"{layer.name} {tuple(layer.attention.shape)}" for layer in layers)
        raise AttentionError(f"layers of different shapes cannot be stacked ({shapes}).", "Take them one by one.")
    return torch.stack([layer.maps for layer in layers], 1)


def maps_to_xarray(
    maps: Tensor, names: list[str], queries: TokenLayout, keys: TokenLayout, metadata: Mapping[str, str]
) -> DataArray:
    """Returns maps (batch, layer, head, query, key) as a `DataArray`. See `AttentionStore.to_xarray`."""
    try:
        from xarray import DataArray
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[xarray]'") from error
    roles = np.array([role.name.lower() for role in Role])
    coords: dict[str, Any] = {"layer": names}
    for axis, tokens in (("query", queries), ("key", keys)):
        coords[f"{axis}_role"] = (("batch", axis), roles[tokens.roles.cpu().numpy()])
        if tokens.labels is not None:
            coords[f"{axis}_label"] = (("batch", axis), np.array(tokens.labels))
    values = float32_or_wider(maps.detach().cpu()).numpy()
    return DataArray(values, coords, ("batch", "layer", "head", "query", "key"), "attention", metadata)


def maps_to_bertviz(
    maps: Tensor, queries: TokenLayout | None, tokens: TokenLayout, example: int
) -> tuple[list[Tensor], list[str]]:
    """Returns maps (batch, layer, head, query, key) for BertViz. See `AttentionStore.to_bertviz`."""
    check_position("example", example, tokens.batch)
    if queries is not None:
        raise AttentionError(
            "the queries of this store are other tokens than its keys.",
            "BertViz takes cross-attention beside the encoder's and the decoder's own: head_view(cross_attention="
            "list(store.maps()[example][:, None]), encoder_tokens=…, decoder_tokens=…).",
        )
    positions = tokens.mask[example].nonzero()[:, 0].tolist()
    shown = maps[example].detach().to("cpu", torch.float32)[:, :, positions][..., positions]
    labels = token_labels(tokens, example)
    return list(shown[:, None]), [labels[position] for position in positions]


def token_labels(tokens: TokenLayout, example: int) -> list[str]:
    """Returns the labels of an example, made of role and position (row and column of a patch) if the layout has none."""
    if tokens.labels is not None:
        return tokens.labels[example]
    roles = [Role(code) for code in tokens.roles[example].tolist()]
    places = [str(position) for position in range(len(roles))]
    if tokens.grid is not None:
        patches = [position for position, role in enumerate(roles) if role is Role.PATCH]
        for i, position in enumerate(patches):
            places[position] = "{},{}".format(*divmod(i, tokens.grid[1]))
    return [f"{role.name.lower()} {place}" for role, place in zip(roles, places, strict=True)]
