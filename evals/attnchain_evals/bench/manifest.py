"""`run.json`, the manifest of a run: everything that a figure depends on, and some outputs that identify the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from torch import Tensor, nn

from attnchain_evals.bench.fingerprint import key_of
from attnchain_evals.tasks.examples import Data, batches, size_of
from attnchain_interp import AttentionError
from attnchain_interp.files import write_text
from attnchain_interp.reprs import first_problem

NAME = "run.json"
BESIDE = ("examples.safetensors", "sanity.json")  # what a report shows beside the rows, and belongs to this run
SCHEMA: Final = "attnchain-bench/3"
_SHOWN = 64  # numbers that are kept of the outputs
_TOLERANCE = 1e-3  # of the largest number: another order of sums stays below, another model does not


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class MetricEntry(_Part):
    """A metric in a configuration. Its settings stand beside."""

    columns: Annotated[list[str], Field(min_length=1)]
    higher_is_better: bool


class ModelEntry(_Part):
    """The model in a configuration."""

    name: str


class Configuration(_Part):
    """The parts of a configuration that are read again."""

    form: Literal["attnchain-bench/3"] = Field(alias="schema")
    model: ModelEntry
    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    metrics: Annotated[dict[str, MetricEntry], Field(min_length=1)]
    limit: PositiveInt | None = None


class Manifest(_Part):
    """The content of `run.json`. Independent examples have no groups."""

    key: str
    batch_size: PositiveInt
    examples: NonNegativeInt | None
    outputs: list[float] | None
    groups: list[NonNegativeInt] | None = None
    configuration: Configuration


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a run as plain data."""
    path = folder / NAME
    if not path.exists():
        raise AttentionError(f"there is no {path}.", f"Run `attnchain bench run --output {folder}`, which writes it.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        Manifest.model_validate(found)
    except ValidationError as error:
        raise _damaged(path, first_problem(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if found["key"] != key_of(found["configuration"]):
        raise _damaged(path, "its key is not that of its configuration")
    return found


def _damaged(path: Path, what: str) -> AttentionError:
    return AttentionError(f"{path} is damaged ({what}).", "Restore it, or remove the folder and run again.")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `run.json`, whole or not at all."""
    write_text(folder / NAME, json.dumps(manifest, indent=1))


@torch.no_grad()
def outputs_of(model: nn.Module, data: Data, limit: int | None, batch_size: int | str) -> list[float] | None:
    """Returns numbers out of the model's clean output for the first examples, evenly spaced; None of a stream.

    They identify a model by its behaviour. Weights do not show hooks, attributes that are not parameters, and code.
    """
    if not size_of(data, limit):
        return None
    size = 2 if isinstance(batch_size, int) and batch_size > 1 else 1
    first = next(batches(data, size, limit, lambda number, _: number == 0))
    with torch.random.fork_rng(devices=[]):
        output: Any = model(first.inputs.to(next(model.parameters()).device))
    while not isinstance(output, Tensor):
        logits = getattr(output, "logits", None)
        several = output.values() if isinstance(output, Mapping) else output
        output = next(iter(several)) if logits is None else logits
    numbers = output.detach().flatten()
    places = torch.linspace(0, len(numbers) - 1, min(_SHOWN, len(numbers)), dtype=torch.float64, device="cpu")
    return numbers[places.long().to(numbers.device)].double().tolist()


def check_outputs(folder: Path, there: list[float] | None, here: list[float] | None) -> None:
    """Refuses a model whose outputs are not those of the run in the folder."""
    if there is None or here is None:
        return
    left, right = np.array(there), np.array(here)
    if left.shape == right.shape:
        scale = np.nanmax(np.abs(left), initial=0)
        off = ~np.isclose(left, right, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)
        if not off.any():
            return
        said = f"{right[off][0]:.6g}, not {left[off][0]:.6g}"
    else:
        said = f"{right.size} numbers, not {left.size}"
    raise AttentionError(
        f"{folder} holds a run of a model with other outputs ({said}), though its weights and settings are the same.",
        "Choose another folder. Hooks, attributes and code of a model change its outputs, too.",
    )
