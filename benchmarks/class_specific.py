"""Class-specific methods compared on several backbones: `python -m benchmarks.class_specific`.

On validation images: `ExpectedVisits` and its variants, from which it is chosen. On test images (`--split test`): it and the
other methods, integrated gradients and controls. Prints deletion, insertion, SRG and localisation; differences of SRG are
paired, image by image. Class-specific methods explain the class of the clean prediction. What was measured is kept in the
folder of the backbones, and `python -m benchmarks.class_specific_page` makes `docs/class-specific.md` of it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from captum.attr import Attribution, IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals import InputMagnitude, benchmark
from attnchain_evals.benchmarking import Benchmark
from attnchain_evals.bundled.train import accuracy
from attnchain_evals.demo import FRACTIONS
from benchmarks.backbones import BACKBONES, FOLDER, load
from benchmarks.visits import variants

OURS: Final = "ExpectedVisits"
OCCLUSIONS: Final = ("mean",)


@final
class IntegratedPatches(Attribution):
    """Captum's integrated gradients (20 steps) from the image's mean colour, summed over channels and over each patch.

    Args:
        model: images → logits.
        grid: (rows, columns) of patches.
        absolute: sum |·| in place of the signed values.
    """

    def __init__(self, model: nn.Module, grid: tuple[int, int], absolute: bool = False) -> None:
        super().__init__(model)
        self.grid, self.absolute = grid, absolute

    def attribute(self, inputs: Tensor, target: Any = None, output: str = "grid") -> Tensor:  # type: ignore[override]
        baseline = inputs.mean((2, 3), keepdim=True).expand_as(inputs)
        pixels = IntegratedGradients(self.forward_func).attribute(inputs, baseline, target, n_steps=20).detach()
        pixels = pixels.abs() if self.absolute else pixels
        return F.adaptive_avg_pool2d(pixels.sum(1, keepdim=True).float(), self.grid)[:, 0]


def methods(model: Any) -> dict[str, Any]:
    grid = tuple(model.patch_embed.grid_size)
    return {
        OURS: ac.ExpectedVisits(),
        "GradientAttention": ac.GradientAttention(),
        "TransitionAttentionMaps": ac.TransitionAttentionMaps(model),
        "LeGrad": ac.LeGrad(model),
        "LeGrad, final score": ac.LeGrad(),
        "GradientRollout": ac.GradientRollout(),
        "GradientTokenRank": ac.GradientTokenRank(),
        "GradientMultiBounce": ac.GradientMultiBounce(),
        "IntegratedGradients": IntegratedPatches(model, grid),
        "IntegratedGradients, absolute": IntegratedPatches(model, grid, absolute=True),
        "TokenRank": ac.TokenRank(),
        "Rollout": ac.Rollout(),
        "RandomRanking": ac.RandomRanking(),
        "input magnitude": InputMagnitude(grid),
    }


@final
@dataclass(frozen=True)
class Comparison:
    """What was measured on one backbone: the benchmark, the model's accuracy on its images, their number and seed."""

    found: Benchmark
    accuracy: float
    images: int
    seed: int

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored: dict[str, Any] = {"about": np.array([self.accuracy, self.images, self.seed]), **self.found.figures}
        np.savez(path, **stored)

    @classmethod
    def read(cls, path: Path) -> Comparison:
        with np.load(path) as stored:
            figures = {name: stored[name] for name in stored.files}
        right, images, seed = figures.pop("about")
        return cls(Benchmark(OCCLUSIONS, next(iter(figures)), figures), float(right), int(images), int(seed))


def compare(name: str, split: Any, images: int, seed: int, folder: Path) -> Comparison:
    """The variants of ExpectedVisits on validation images of a backbone, or all methods on test images."""
    model, data = load(name, folder), BACKBONES[name].data(split, images, seed)
    every = variants(model) if split == "validation" else methods(model)
    found = benchmark(model, data.batches(32), every, OCCLUSIONS, FRACTIONS, OURS, progress=True)
    return Comparison(found, accuracy(model, data), images, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where weights and figures are kept")
    arguments = parser.parse_args()
    for name in arguments.backbone:
        made = compare(name, arguments.split, arguments.images, arguments.seed, arguments.folder)
        made.write(arguments.folder / f"{name}-{arguments.split}.npz")
        print(f"{name}, {made.images} {arguments.split} images, seed {made.seed}, accuracy {made.accuracy:.3f}\n")
        print(made.found.markdown() + "\n")


if __name__ == "__main__":
    main()
