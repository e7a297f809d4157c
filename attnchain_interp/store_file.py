"""Attention stores as safetensors files: one tensor per layer, the token roles, and a JSON header."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attnchain_interp.errors import AttentionError
from attnchain_interp.layers import LayerAttention
from attnchain_interp.store import AttentionStore
from attnchain_interp.tokens import TokenLayout

_KEY: Final = "attnchain_interp"
_VERSION: Final = 1
_ROLES: Final = "tokens.roles"


def write_store(store: AttentionStore, path: Path) -> None:
    header = {
        "version": _VERSION,
        "layers": store.names,
        "grid": store.tokens.grid,
        "labels": store.tokens.labels,
        "metadata": store.metadata,
    }
    tensors = {f"layers.{i}": layer.maps.contiguous() for i, layer in enumerate(store)}
    tensors[_ROLES] = store.tokens.roles.contiguous()
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, partial, {_KEY: json.dumps(header)})
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


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
            if header["version"] != _VERSION:
                raise AttentionError(
                    f"{path} has store format {header['version']}; this version reads {_VERSION}. Update attnchain-interp."
                )
            grid = header["grid"]
            tokens = TokenLayout(file.get_tensor(_ROLES), tuple(grid) if grid else None, header["labels"])
            layers = [LayerAttention(name, file.get_tensor(f"layers.{i}")) for i, name in enumerate(header["layers"])]
    except SafetensorError as error:
        raise AttentionError(f"{path} is not a complete safetensors file ({error}); write it again.") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AttentionError(f"{path} has a damaged store header ({error!r}); write it again.") from error
    return AttentionStore(layers, tokens, header["metadata"])
