"""Attention stores as safetensors files: the tensors of each layer, the token roles, and a JSON header."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.operators import Factors
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.tokens import TokenLayout

_KEY: Final = "attnchain_interp"
_NORMS: Final = "value_norms"
_VERSION: Final = 4
_READ: Final = (2, 3, 4)


def write_layers(
    path: Path, layers: Iterable[LayerAttention], tokens: TokenLayout, metadata: Mapping[str, str], queries: TokenLayout | None
) -> None:
    """Writes a file, whole or not at all. The arguments are those of an `AttentionStore`."""
    layers = list(layers)
    header = {
        "version": _VERSION,
        "layers": [_described(layer) for layer in layers],
        "grid": tokens.grid,
        "labels": tokens.labels,
        "queries": queries and {"grid": queries.grid, "labels": queries.labels},
        "metadata": metadata,
    }
    tensors = {
        f"layers.{i}.{name}": tensor.contiguous() for i, layer in enumerate(layers) for name, tensor in _tensors(layer).items()
    }
    tensors["tokens.roles"] = tokens.roles.contiguous()
    if queries:
        tensors["queries.roles"] = queries.roles.contiguous()
    with whole(path) as partial:
        save_file(tensors, partial, {_KEY: json.dumps(header)})


def _tensors(layer: LayerAttention) -> dict[str, Tensor]:
    held = layer.attention.tensors if isinstance(layer.attention, Factors) else {"maps": layer.attention}
    return held if layer.value_norms is None else held | {_NORMS: layer.value_norms}


def _described(layer: LayerAttention) -> dict[str, Any]:
    described: dict[str, Any] = {"name": layer.name, "sink": layer.sink, "tensors": list(_tensors(layer))}
    if isinstance(layer.attention, Factors):
        described |= {name: getattr(layer.attention, name) for name in ("scale", "causal", "softcap")}
    return described


def _layer(described: dict[str, Any], tensor: Callable[[str], Tensor]) -> LayerAttention:
    tensors = {name: tensor(name) for name in described["tensors"]}
    norms = tensors.pop(_NORMS, None)  # formats 2 and 3 had none
    if "maps" in tensors:
        return LayerAttention(described["name"], tensors["maps"], described["sink"], norms)
    factors = Factors(**tensors, **{name: described[name] for name in ("scale", "causal", "softcap")})
    return LayerAttention(described["name"], factors, described["sink"], norms)


def _layout(name: str, described: dict[str, Any], file: Any) -> TokenLayout:
    grid, labels = described["grid"], described["labels"]
    return TokenLayout(file.get_tensor(f"{name}.roles"), tuple(grid) if grid else None, labels)


def read_layers(path: Path) -> tuple[list[LayerAttention], TokenLayout, dict[str, str], TokenLayout | None]:
    """Returns the layers, the layout, the metadata and the layout of the queries that `write_layers` put into a file."""
    if not path.is_file():
        raise AttentionError(f"there is no file {path}.", "Pass the path of a file that AttentionStore.write made.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise AttentionError(
                    f"{path} is a safetensors file but no attention store.",
                    "Read a file that AttentionStore.write made, or build a store of tensors with AttentionStore.from_maps.",
                )
            header = json.loads(metadata[_KEY])
            if header["version"] not in _READ:
                readable = ", ".join(map(str, _READ))
                raise AttentionError(
                    f"{path} has store format {header['version']}; this version reads {readable}.", "Update attnchain-interp."
                )
            header = {"queries": None, **header}  # format 2 had none
            tokens = _layout("tokens", header, file)
            queries = header["queries"] and _layout("queries", header["queries"], file)
            layers = [
                _layer(described, lambda name, i=i: file.get_tensor(f"layers.{i}.{name}"))
                for i, described in enumerate(header["layers"])
            ]
    except SafetensorError as error:
        raise AttentionError(f"{path} is not a complete safetensors file ({error}).", "Write it again.") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AttentionError(f"{path} has a damaged store header ({error!r}).", "Write it again.") from error
    return layers, tokens, header["metadata"], queries
