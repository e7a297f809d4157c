"""Attention stores as safetensors files: the tensors of each layer, the token roles, and a JSON header."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.operators.factors import Factors
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.tokens import TokenLayout

_KEY: Final = "attnchain_interp"
_VERSION: Final = 3
_READ: Final = (2, 3)


def write_store(store: AttentionStore, path: Path) -> None:
    header = {
        "version": _VERSION,
        "layers": [_described(layer) for layer in store],
        "grid": store.tokens.grid,
        "labels": store.tokens.labels,
        "queries": store.queries and {"grid": store.queries.grid, "labels": store.queries.labels},
        "metadata": store.metadata,
    }
    tensors = {
        f"layers.{i}.{name}": tensor.contiguous() for i, layer in enumerate(store) for name, tensor in _tensors(layer).items()
    }
    tensors["tokens.roles"] = store.tokens.roles.contiguous()
    if store.queries:
        tensors["queries.roles"] = store.queries.roles.contiguous()
    with whole(path) as partial:
        save_file(tensors, partial, {_KEY: json.dumps(header)})


def _tensors(layer: LayerAttention) -> dict[str, Tensor]:
    if not isinstance(layer.attention, Factors):
        return {"maps": layer.attention}
    held = {name: getattr(layer.attention, name) for name in ("query", "key", "mask", "sinks")}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


def _described(layer: LayerAttention) -> dict[str, Any]:
    described: dict[str, Any] = {"name": layer.name, "sink": layer.sink, "tensors": list(_tensors(layer))}
    if isinstance(layer.attention, Factors):
        described |= {name: getattr(layer.attention, name) for name in ("scale", "causal", "softcap")}
    return described


def _layer(described: dict[str, Any], tensor: Callable[[str], Tensor]) -> LayerAttention:
    tensors = {name: tensor(name) for name in described["tensors"]}
    if "maps" in tensors:
        return LayerAttention(described["name"], tensors["maps"], described["sink"])
    factors = Factors(**tensors, **{name: described[name] for name in ("scale", "causal", "softcap")})
    return LayerAttention(described["name"], factors, described["sink"])


def _layout(name: str, described: dict[str, Any], file: Any) -> TokenLayout:
    grid, labels = described["grid"], described["labels"]
    return TokenLayout(file.get_tensor(f"{name}.roles"), tuple(grid) if grid else None, labels)


def read_store(path: Path) -> AttentionStore:
    if not path.is_file():
        raise AttentionError(f"there is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise AttentionError(
                    f"{path} is a safetensors file but no attention store; read what AttentionStore.write made, or build a"
                    " store of your tensors with AttentionStore.from_maps."
                )
            header = json.loads(metadata[_KEY])
            if header["version"] not in _READ:
                readable = " and ".join(map(str, _READ))
                raise AttentionError(
                    f"{path} has store format {header['version']}; this version reads {readable}. Update attnchain-interp."
                )
            header = {"queries": None, **header}  # there were none in format 2
            tokens = _layout("tokens", header, file)
            queries = header["queries"] and _layout("queries", header["queries"], file)
            layers = [
                _layer(described, lambda name, i=i: file.get_tensor(f"layers.{i}.{name}"))
                for i, described in enumerate(header["layers"])
            ]
    except SafetensorError as error:
        raise AttentionError(f"{path} is not a complete safetensors file ({error}); write it again.") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AttentionError(f"{path} has a damaged store header ({error!r}); write it again.") from error
    return AttentionStore(layers, tokens, header["metadata"], queries)
