"""The header of a store's file: its schema, and the checksum of the tensors.

pydantic reads and checks the JSON in one pass of compiled code; jsonschema, whose own size is about the same, walks each label
in Python. Neither loads more than the other (60 ms), and a class says the schema once, for writing and for reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Annotated, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import first_problem

FORMAT: Final = 5
_PAGE: Final = 512  # words of 64 bits


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LayoutHeader(_Part):
    """A `TokenLayout` without its roles."""

    grid: tuple[PositiveInt, PositiveInt] | None
    labels: list[list[str]] | None


class LayerHeader(_Part):
    """A `LayerAttention` without its tensors. The last three fields are those of `Factors`."""

    name: str
    sink: bool
    tensors: tuple[str, ...]
    scale: float | None = None
    causal: bool = False
    softcap: float | None = None

    @model_validator(mode="after")
    def _maps_or_factors(self) -> Self:
        held = set(self.tensors) - {"value_norms"}
        if held != {"maps"} and not {"query", "key"} <= held <= {"query", "key", "mask", "sinks"}:
            raise ValueError("a layer holds maps, or query and key with or without mask and sinks, and value_norms or not")
        factors = {"scale", "causal", "softcap"}
        if self.model_fields_set & factors != (set() if held == {"maps"} else factors):
            raise ValueError("factors have scale, causal and softcap, and maps have none of them")
        return self


class Header(LayoutHeader):
    """All of a store but its tensors, as JSON in the metadata of a safetensors file."""

    version: Literal[5]
    layers: Annotated[tuple[LayerHeader, ...], Field(min_length=1)]
    queries: LayoutHeader | None = None
    metadata: dict[str, str]
    checksum: str

    @classmethod
    def read(cls, path: Path, text: str) -> Header:
        """Returns the header of a file."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            for each in error.errors():
                if each["loc"] == ("version",) and each["type"] != "missing":
                    version = each["input"]
                    newer = isinstance(version, int) and version > FORMAT
                    raise AttentionError(
                        f"{path} has store format {short(version)}; this version reads {FORMAT}.",
                        "Update attnchain-interp." if newer else "Capture the attention again, and write it.",
                    ) from error
            raise damaged(path, first_problem(error)) from error

    @property
    def tensor_names(self) -> set[str]:
        """The names of the tensors beside the header."""
        layers = {f"layers.{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.tensors}
        return {"tokens.roles", *layers, *(["queries.roles"] if self.queries else [])}


def damaged(path: Path, what: str) -> AttentionError:
    return AttentionError(f"{path} has a damaged store header ({what}).", "Write it again.")


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of the names, the types, the shapes, and the sum of every 4096 bytes of the tensors.

    Sums are taken as integers of 64 bits, so they are the same on every device. They show damage of a disk or of a copy,
    at the speed at which memory is read. They are not a signature.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        bytes_ = tensor.detach().contiguous().flatten().view(torch.uint8)
        whole = bytes_.numel() // (8 * _PAGE) * (8 * _PAGE)
        for part in (_pages(bytes_[:whole]), bytes_[whole:]):
            found.update(part.cpu().numpy().tobytes())
    return found.hexdigest()


def _pages(bytes_: Tensor) -> Tensor:
    """Returns the sum of each page, wrapped to 64 bits. Bytes of a view that starts anywhere are laid out anew."""
    aligned = bytes_ if not bytes_.storage_offset() % 8 else bytes_.clone()
    return aligned.view(torch.int64).view(-1, _PAGE).sum(1)
