"""Trains the bundled diffusion model on digits over textures: `python -m studies.training.diffusion_model`."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from attnchain_evals.bundled.diffusion_model import NO_CLASS, WEIGHTS, build_scheduler, build_unet
from attnchain_evals.tasks.textured_digits import Example, TexturedDigits
from studies.training.arguments import image_training_arguments

BATCH = 32
DROPPED = 0.15  # share of images whose class is not told


def train(images: int, seed: int, out: Path, learning_rate: float = 1.5e-3) -> None:
    """Trains on `images` images and writes the averaged weights in half precision."""
    torch.manual_seed(seed)
    model, scheduler = build_unet(), build_scheduler()
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    steps = images // BATCH
    data = DataLoader(TexturedDigits("train", steps * BATCH, seed=seed), BATCH)
    levels = len(scheduler.alphas_cumprod)
    started, mean_loss = time.time(), 1.0
    for step, fields in enumerate(data):
        batch = Example(*fields)
        clean, noise = 2 * batch.image - 1, torch.randn_like(batch.image)
        timestep: Any = ((torch.rand(()) + torch.arange(BATCH) / BATCH) % 1 * levels).long()  # evenly over the schedule
        label = batch.label.masked_fill(torch.rand(BATCH) < DROPPED, NO_CLASS)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 200, (1 - step / steps) / 0.5)
        predicted = model(scheduler.add_noise(clean, noise, timestep), timestep, label).sample
        loss = (predicted - scheduler.get_velocity(clean, noise, timestep)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(0.998, step / (step + 20))
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        mean_loss += 0.02 * (loss.item() - mean_loss)
        if (step + 1) % 50 == 0:
            print(f"{(step + 1) * BATCH:8d} images {time.time() - started:6.0f} s  loss {mean_loss:.4f}", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            save_file({name: weight.half() for name, weight in average.state_dict().items()}, out)


def main() -> None:
    train(*image_training_arguments(__doc__, WEIGHTS, 72_000))


if __name__ == "__main__":
    main()
