"""Trains the digit classifier of the diffusion study: `python -m studies.training.digit_classifier`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader

from attnchain_evals.tasks.textured_digits import Example, TexturedDigits
from studies.diffusion.digit_classifier import WEIGHTS, DigitClassifier

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64_000, help="how many training images to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go (safetensors)")
    arguments = parser.parse_args()
    train(arguments.images, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
