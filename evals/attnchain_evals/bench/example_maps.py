"""The examples that a report shows, with the scores of every method, in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from attnchain_evals.bench.runner import Plan
from attnchain_evals.tasks.examples import Batch, batches
from attnchain_interp import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.pictures import displayable

SHOWN = 4
FILE = "examples.safetensors"
_TEXTS = TypeAdapter(list[list[str]])


class ExampleMaps(NamedTuple):
    """The first examples with the map of every method.

    Attributes:
        images: (example, height, width, 3), 0 … 255; None for texts.
        masks: (example, height, width), 0 … 255; None without masks.
        maps: (method, example, rows, columns); (method, example, token) for texts, NaN where a token is not ranked,
            and behind a text that is shorter than another.
        texts: the tokens of each text; empty for images.
    """

    images: Tensor | None
    masks: Tensor | None
    maps: Tensor
    texts: list[list[str]]


def write_example_maps(plan: Plan, folder: Path) -> None:
    """Writes the first examples, if the folder does not hold them yet; of images those that have the size of the first."""
    if (folder / FILE).exists():
        return
    size = SHOWN if plan.batch_size == "auto" else min(SHOWN, plan.batch_size)
    firsts = list(batches(plan.data, size, min(SHOWN, plan.limit or SHOWN), lambda *_: True))
    texts = firsts[0].inputs.ndim == 2
    parts = [part for part in firsts if texts or part.inputs.shape[1:] == firsts[0].inputs.shape[1:]]
    maps = [_maps(plan, part) for part in parts]
    longest = max(each.shape[-1] for each in maps)
    padded = [functional.pad(each, (0, longest - each.shape[-1]), value=torch.nan) for each in maps]  # behind a shorter text
    tensors, words = {"maps": torch.cat(padded, 1)}, list[list[str]]()
    if texts:
        words = [_labels(plan.data, ids) for part in parts for ids in part.inputs]
    else:
        pictures = torch.stack([torch.tensor(displayable(image)) for part in parts for image in part.inputs])
        tensors["images"] = (pictures * 255).round().byte().contiguous()
        masks = [part.masks for part in parts if part.masks is not None]
        if len(masks) == len(parts):
            tensors["masks"] = torch.cat(masks).byte().mul(255).contiguous()
    with whole(folder / FILE) as partial:
        save_file(tensors, partial, {"texts": json.dumps(words)})


def read_example_maps(folder: Path) -> ExampleMaps | None:
    """Returns the written examples; None if there are none."""
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, "pt") as file:  # pyright: ignore[reportPrivateImportUsage]
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            texts = _TEXTS.validate_json((file.metadata() or {}).get("texts", "[]"))
        if "maps" not in tensors:
            raise ValueError("it holds no maps")
    except (SafetensorError, OSError, ValueError) as error:
        raise AttentionError(f"{folder / FILE} is damaged ({error}).", "Remove it and run again.") from error
    return ExampleMaps(tensors.get("images"), tensors.get("masks"), tensors["maps"], texts)


def _maps(plan: Plan, batch: Batch) -> Tensor:
    """Returns the maps (method, example, …) of a batch."""
    shared = plan.captured(batch)
    maps = torch.stack([shared.scores(method).detach().float().cpu() for method in plan.methods.values()])
    return maps if batch.words is None else maps.masked_fill(batch.words < 0, torch.nan)


def _labels(data: object, ids: Tensor) -> list[str]:
    """Returns the tokens as the data spell them, or their numbers."""
    spell = getattr(data, "labels", None)
    return [str(number) for number in ids.tolist()] if spell is None else spell(ids)
