"""Maps from other tools (TransformerLens caches, lists of tensors), and maps for other tools (xarray, BertViz)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.store.roles import Role
from attnchain_interp.store.tokens import TokenLayout

if TYPE_CHECKING:
    from xarray import DataArray


class NamedMaps(Protocol):
    """Maps by the name of their layer: a dict, or a TransformerLens `ActivationCache`."""

    def items(self) -> Iterable[tuple[str, Tensor]]: ...


def named_maps(maps: Sequence[Tensor] | NamedMaps | Tensor, names: Sequence[str] | None) -> list[tuple[str, Tensor]]:
    """Returns the name and the maps (batch, head, query, key) of each layer. See `AttentionStore.from_maps`."""
    if isinstance(maps, Tensor) and maps.ndim != 5:
        raise AttentionError(
            f"maps is one tensor of shape {tuple(maps.shape)}; as one tensor it must be (layer, batch, head, query, key).",
            "Put the maps of a single layer into a list: from_maps([maps]).",
        )
    if isinstance(maps, Tensor | Sequence):
        names = [f"layer.{i}" for i in range(len(maps))] if names is None else names
        if len(names) != len(maps):
            raise AttentionError(f"there are {len(names)} names for {len(maps)} maps.", "Pass one name for each layer.")
        named = list(zip(names, maps, strict=True))
    else:
        named = list(_patterns(dict(maps.items())).items())
    if not named:
        raise AttentionError(
            'maps is empty. A model under "sdpa" returns no attentions.',
            "Capture it instead: attnchain_interp.capture(model, …) needs no other implementation.",
        )
    for name, tensor in named:
        if not isinstance(tensor, Tensor) or tensor.ndim != 4:
            came = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"type {type(tensor).__name__}"
            raise AttentionError(
                f"maps must be tensors (batch, head, query, key), one per layer; {name!r} is of {came}.",
                "Pass output.attentions of a model's output, and leave out layers that have no attention.",
            )
    return named


def _patterns(activations: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the patterns of a TransformerLens cache by the name of the attention module; another mapping as it is."""
    if not any(".hook_" in name for name in activations):
        return activations
    patterns = {name.removesuffix(".hook_pattern"): t for name, t in activations.items() if name.endswith(".hook_pattern")}
    if not patterns:
        raise AttentionError(
            f"maps is a TransformerLens cache of {len(activations)} activations without an attention pattern.",
            'Record them: model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern")).',
        )
    return {name: pattern[None] if pattern.ndim == 3 else pattern for name, pattern in patterns.items()}


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
