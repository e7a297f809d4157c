"""Maps that other tools made, and what other tools take: TransformerLens caches, xarray, BertViz."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.precision import float32_or_wider
from attnchain_interp.store.tokens import Role, TokenLayout

if TYPE_CHECKING:
    from xarray import DataArray

    from attnchain_interp.store.attention_store import AttentionStore
    from attnchain_interp.store.layers import LayerSelection


class NamedMaps(Protocol):
    """Maps by the name of their layer: a dict, or a TransformerLens `ActivationCache`."""

    def items(self) -> Iterable[tuple[str, Tensor]]: ...


def named_maps(maps: Sequence[Tensor] | NamedMaps | Tensor, names: Sequence[str] | None) -> list[tuple[str, Tensor]]:
    """Name and maps (batch, head, query, key) of each layer, whatever they came in.

    Raises:
        AttentionError: nothing in it, something other than maps, or another number of names than maps.
    """
    if isinstance(maps, Tensor) and maps.ndim != 5:
        raise AttentionError(
            f"maps is one tensor of shape {tuple(maps.shape)}; as one tensor it must be (layer, batch, head, query, key). Put"
            " the maps of a single layer into a list: from_maps([maps])."
        )
    if isinstance(maps, Tensor | Sequence):
        names = [f"layer.{i}" for i in range(len(maps))] if names is None else names
        if len(names) != len(maps):
            raise AttentionError(f"there are {len(names)} names for {len(maps)} maps.")
        named = list(zip(names, maps, strict=True))
    else:
        named = list(_patterns(dict(maps.items())).items())
    if not named:
        raise AttentionError(
            'maps is empty. A model under "sdpa" returns no attentions: capture it with attnchain_interp.capture(model,'
            " …) instead, which needs no other implementation."
        )
    for name, tensor in named:
        if not isinstance(tensor, Tensor) or tensor.ndim != 4:
            came = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"type {type(tensor).__name__}"
            raise AttentionError(
                f"maps must be tensors (batch, head, query, key), one per layer; {name!r} is of {came}. Of a model's output"
                " pass output.attentions; leave out layers that have no attention."
            )
    return named


def _patterns(activations: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a TransformerLens cache the patterns, by the name of the attention module; all of what is no such cache."""
    if not any(".hook_" in name for name in activations):
        return activations
    patterns = {name.removesuffix(".hook_pattern"): t for name, t in activations.items() if name.endswith(".hook_pattern")}
    if not patterns:
        raise AttentionError(
            f"maps is a TransformerLens cache of {len(activations)} activations without an attention pattern; record them:"
            ' model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern")).'
        )
    return {name: pattern[None] if pattern.ndim == 3 else pattern for name, pattern in patterns.items()}


def store_to_xarray(store: AttentionStore, layers: LayerSelection) -> DataArray:
    try:
        from xarray import DataArray
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[xarray]'") from error
    maps = store.maps(layers).detach().cpu()
    roles = np.array([role.name.lower() for role in Role])
    coords: dict[str, Any] = {"layer": [layer.name for layer in store.select(layers)]}
    for axis, tokens in (("query", store.queries or store.tokens), ("key", store.tokens)):
        coords[f"{axis}_role"] = (("batch", axis), roles[tokens.roles.cpu().numpy()])
        if tokens.labels is not None:
            coords[f"{axis}_label"] = (("batch", axis), np.array(tokens.labels))
    values = float32_or_wider(maps).numpy()
    return DataArray(values, coords, ("batch", "layer", "head", "query", "key"), "attention", store.metadata)


def store_to_bertviz(store: AttentionStore, example: int) -> tuple[list[Tensor], list[str]]:
    if isinstance(example, bool) or not -store.batch <= example < store.batch:
        raise AttentionError(f"example {example!r} does not exist; there are {store.batch}, numbered 0 to {store.batch - 1}.")
    if store.queries is not None:
        raise AttentionError(
            "this store's queries are other tokens than its keys; BertViz takes cross-attention beside the encoder's and the"
            " decoder's own: head_view(cross_attention=list(store.maps()[example][:, None]), encoder_tokens=…,"
            " decoder_tokens=…)."
        )
    positions = store.tokens.mask[example].nonzero()[:, 0].tolist()
    maps = store.maps()[example].detach().to("cpu", torch.float32)[:, :, positions][..., positions]
    labels = token_labels(store.tokens, example)
    return list(maps[:, None]), [labels[position] for position in positions]


def token_labels(tokens: TokenLayout, example: int) -> list[str]:
    """The labels of an example; made of role and position (row and column of a patch) where the layout has none."""
    if tokens.labels is not None:
        return tokens.labels[example]
    roles = [Role(code) for code in tokens.roles[example].tolist()]
    places = [str(position) for position in range(len(roles))]
    if tokens.grid is not None:
        patches = [position for position, role in enumerate(roles) if role is Role.PATCH]
        for i, position in enumerate(patches):
            places[position] = "{},{}".format(*divmod(i, tokens.grid[1]))
    return [f"{role.name.lower()} {place}" for role, place in zip(roles, places, strict=True)]
