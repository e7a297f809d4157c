"""The examples that a report shows: images, masks and the heat map of every method, in one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attnchain_evals.bench.data import batches
from attnchain_evals.bench.reading import Reading
from attnchain_evals.bench.running import Plan
from attnchain_interp.files import whole
from attnchain_interp.pictures.images import displayable

SHOWN = 4
FILE = "examples.safetensors"


class Shown(NamedTuple):
    """`images` (example, height, width, 3) and `masks` (example, height, width) in 0 … 255; `maps` (method, example, rows,
    columns), as the methods gave them."""

    images: Tensor
    masks: Tensor | None
    maps: Tensor


def write_shown(plan: Plan, folder: Path) -> None:
    """Writes the first examples, where the folder does not hold them yet."""
    if (folder / FILE).exists():
        return
    (batch,) = batches(plan.data, SHOWN, min(SHOWN, plan.limit or SHOWN), lambda *_: True)
    reading = Reading(plan.model, batch.images.to(next(plan.model.parameters()).device), batch.first)
    pictures = torch.stack([torch.tensor(displayable(image)) for image in batch.images])
    tensors = {"images": (pictures * 255).round().byte().contiguous()}
    tensors["maps"] = torch.stack([reading.grid(method).detach().float().cpu() for method in plan.methods.values()])
    if batch.masks is not None:
        tensors["masks"] = batch.masks.byte().mul(255).contiguous()
    with whole(folder / FILE) as partial:
        save_file(tensors, partial)


def read_shown(folder: Path) -> Shown | None:
    """What was written; None where nothing was."""
    if not (folder / FILE).exists():
        return None
    tensors = load_file(folder / FILE)
    return Shown(tensors["images"], tensors.get("masks"), tensors["maps"])
