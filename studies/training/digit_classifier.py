"""Trains the digit classifier of the diffusion study: `python -m studies.training.digit_classifier`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader

from attnchain_evals.tasks.textured_digits import Example, TexturedDigits
from studies.diffusion.digit_classifier import WEIGHTS, DigitClassifier
from studies.training.arguments import image_training_arguments

BATCH = 64


@torch.no_grad()
def accuracy(model: DigitClassifier, data: TexturedDigits) -> float:
    model.eval()
    right = sum(int((model(batch.image).argmax(1) == batch.label).sum()) for batch in data.batches(BATCH))
    return right / len(data)


def train(images: int, seed: int, out: Path, learning_rate: float = 2e-3) -> None:
    torch.manual_seed(seed)
    model = DigitClassifier()
    steps = images // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    for step, fields in enumerate(DataLoader(TexturedDigits("train", steps * BATCH, seed=seed), BATCH)):
        batch = Example(*fields)
        loss = F.cross_entropy(model(batch.image), batch.label, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"{(step + 1) * BATCH:8d} images  loss {loss.item():.3f}", flush=True)
    print(f"validation: {accuracy(model, TexturedDigits('validation', 1024, seed=seed)):.3f}")
    save_file(model.state_dict(), out)


def main() -> None:
    train(*image_training_arguments(__doc__, WEIGHTS, 64_000))


if __name__ == "__main__":
    main()
