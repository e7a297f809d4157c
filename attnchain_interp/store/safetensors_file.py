"""Attention stores as safetensors files: the tensors of each layer, the token roles, and a JSON header."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.operators import Factors
from attnchain_interp.reprs import first_problem
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.store_header import FORMAT, Header, LayerHeader, LayoutHeader, checksum, damaged
from attnchain_interp.store.tokens import TokenLayout

_KEY: Final = "attnchain_interp"
_NORMS: Final = "value_norms"
_HUGE: Final = 2**22  # bytes, from which on numpy asks
_OF_FACTORS: Final = ("scale", "causal", "softcap")
Store = TypeVar("Store")


def write_layers(
    path: Path, layers: Iterable[LayerAttention], tokens: TokenLayout, metadata: Mapping[str, str], queries: TokenLayout | None
) -> None:
    """Writes a file, whole or not at all. The arguments are those of an `AttentionStore`."""
    layers = list(layers)
    named = {f"layers.{i}.{name}": tensor for i, layer in enumerate(layers) for name, tensor in _tensors(layer).items()}
    roles = {"tokens.roles": tokens.roles} | ({"queries.roles": queries.roles} if queries else {})
    tensors = _apart(named | roles)
    try:
        header = Header(
            version=FORMAT,
            layers=tuple(map(_described, layers)),
            queries=_layout_header(queries) if queries else None,
            metadata=dict(metadata),
            checksum=checksum(tensors),
            **dict(_layout_header(tokens)),
        ).model_dump_json(exclude_unset=True)
    except ValidationError as error:
        raise AttentionError(f"{path} cannot hold this store ({first_problem(error)}).", "Correct that field.") from error
    except PydanticSerializationError as error:  # lone surrogates
        raise AttentionError(f"{path} cannot hold this store ({error}).", "Use text that UTF-8 can hold.") from error
    with whole(path) as partial:
        save_file(tensors, partial, {_KEY: header})


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors contiguous, with their signs applied, and those that share memory with an earlier one copied."""
    found: dict[str, Tensor] = {}
    ends: dict[Any, list[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        tensor = tensor.resolve_neg().contiguous()
        if tensor.ndim and tensor.stride(-1) != 1:  # of an axis of one element, which torch calls contiguous
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        start, taken = tensor.data_ptr(), ends.setdefault(tensor.device, [])
        if any(start < end and begin < start + tensor.nbytes for begin, end in taken):
            tensor = tensor.clone()
        taken.append((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes))
        found[name] = tensor
    return found


def _tensors(layer: LayerAttention) -> dict[str, Tensor]:
    held = layer.attention.tensors if isinstance(layer.attention, Factors) else {"maps": layer.attention}
    return held if layer.value_norms is None else held | {_NORMS: layer.value_norms}


def _described(layer: LayerAttention) -> LayerHeader:
    factors = layer.attention if isinstance(layer.attention, Factors) else None
    settings = {name: getattr(factors, name) for name in _OF_FACTORS} if factors else {}
    return LayerHeader(name=layer.name, sink=layer.sink, tensors=tuple(_tensors(layer)), **settings)


def _layout_header(layout: TokenLayout) -> LayoutHeader:
    return LayoutHeader(grid=layout.grid, labels=layout.labels)


def read_store(path: Path, mmap: bool, verify: bool, build: Callable[..., Store]) -> Store:
    """Returns the store of a file: `build` makes it of layers, layout, metadata and the layout of the queries.

    See `AttentionStore.read`.
    """
    header, tensors = contents(path, mmap)
    if verify:
        _verify(path, header, tensors)
    try:
        layers = [
            _layer(described, lambda name, i=i: tensors[f"layers.{i}.{name}"]) for i, described in enumerate(header.layers)
        ]
        tokens = TokenLayout(tensors["tokens.roles"], header.grid, header.labels)
        queries = header.queries and TokenLayout(tensors["queries.roles"], header.queries.grid, header.queries.labels)
        return build(layers, tokens, header.metadata, queries)
    except AttentionError as error:
        first = str(error).partition("\n")[0]
        raise AttentionError(f"{path} holds no valid store: {first}", "Write it again.") from error


def contents(path: Path, mmap: bool) -> tuple[Header, dict[str, Tensor]]:
    """Returns the header of a file and its tensors by name. See `read_store` for arguments and errors."""
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
            header = Header.read(path, metadata[_KEY])
            if odd := header.tensor_names ^ set(file.keys()):
                raise damaged(path, f"it and the file do not both have the tensors {', '.join(sorted(odd))}")
            tensors = {name: file.get_tensor(name) for name in header.tensor_names}
            return header, tensors if mmap else {name: _copied(tensor) for name, tensor in tensors.items()}
    except (SafetensorError, OSError) as error:
        raise AttentionError(f"{path} is not a complete safetensors file ({error}).", "Write it again.") from error


def _copied(tensor: Tensor) -> Tensor:
    """Returns a copy. A large one is put into memory of numpy, which asks for huge pages and so takes fewer page faults."""
    if tensor.nbytes < _HUGE:
        return tensor.clone()
    memory = torch.from_numpy(np.empty(tensor.nbytes, np.uint8))
    return memory.copy_(tensor.flatten().view(torch.uint8)).view(tensor.dtype).view(tensor.shape)


def _verify(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    if checksum(tensors) != header.checksum:
        raise AttentionError(
            f"the tensors of {path} are not those that were written: its checksum differs.", "Write it again."
        )


def _layer(described: LayerHeader, tensor: Callable[[str], Tensor]) -> LayerAttention:
    tensors = {name: tensor(name) for name in described.tensors}
    norms = tensors.pop(_NORMS, None)
    settings = {name: getattr(described, name) for name in _OF_FACTORS}
    attention = tensors["maps"] if "maps" in tensors else Factors(**tensors, **settings)
    return LayerAttention(described.name, attention, described.sink, norms)
