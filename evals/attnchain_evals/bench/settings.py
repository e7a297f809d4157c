"""The options of `attnchain bench run`, out of flags and files, checked before anything is loaded."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from attnchain_interp import AttentionError

Names = str | list[str]


class BenchSettings(BaseModel):
    """The options by their names in a file. A flag of the same name overrides a file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())

    model: str = "bundled"
    data: str = "digits:validation"
    probe: str | None = None
    methods: Names | None = None
    metrics: Names | None = None
    batch_size: Annotated[
        PositiveInt | Annotated[str, Field(pattern=r"^([1-9]\d{0,8}|auto)$")] | Literal["auto"] | None,
        Field(description="it is a whole number from 1 on, or auto"),
    ] = None
    limit: PositiveInt | None = None
    seed: NonNegativeInt = 0
    baseline: str | None = None
    device: str | None = None
    sanity: NonNegativeInt = 0
    grid: dict[str, dict[str, list[Any]]] = {}

    @classmethod
    def of(cls, flags: Mapping[str, Any], file: Path | None = None) -> BenchSettings:
        """Returns the options of a .toml or .json file, with those that were given as flags in their place."""
        written = {} if file is None else _read(file)
        try:
            return cls.model_validate({**written, **flags})
        except ValidationError as error:
            first = error.errors()[0]
            name, where = ".".join(map(str, first["loc"][:1])), f"{file} has" if first["loc"][0] in written else "there is"
            known = ", ".join(cls.model_fields)
            if first["type"] == "extra_forbidden":
                raise AttentionError(f"{where} the unknown option {name}.", f"Use {known}.") from error
            messages = dict.fromkeys(each["msg"] for each in error.errors() if each["loc"][0] == first["loc"][0])
            said = cls.model_fields[name].description or " or ".join(messages)
            raise AttentionError(
                f"{where} {name} = {first['input']!r}, which does not fit: {said}.", f"Correct {name}."
            ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise AttentionError(
            f"{path} is not a readable .toml or .json file ({error}).", "Correct the file or its path."
        ) from error
    if not isinstance(found, dict):
        raise AttentionError(f"{path} holds {type(found).__name__}, not options by name.", "Write an object, {}.")
    return found
