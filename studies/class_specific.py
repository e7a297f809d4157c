"""Compares class-specific methods on several backbones: `python -m studies.class_specific`.

On validation images it measures variants of `ExpectedVisits`, among which one is chosen. On test images (`--split test`) it
measures the chosen one beside the other methods, integrated gradients and controls. It prints deletion, insertion, SRG and
localisation. Differences of SRG are paired, image by image. Class-specific methods explain the class of the clean prediction.
The measurements are kept in the folder of the backbones, and `python -m studies.class_specific_page` makes
`docs/class-specific.md` of them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from captum.attr import Attribution, IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals import BenchmarkResult, InputMagnitude, benchmark
from attnchain_evals.cli.digits_demo import FRACTIONS
from attnchain_evals.metrics import ExampleMetric, curve_metrics, localisation_metrics
from attnchain_interp.files import write_text
from studies.backbones import BACKBONES, FOLDER, load
from studies.expected_visits_variants import variants
from studies.training.vit import accuracy

OURS: Final = "ExpectedVisits"
OCCLUSIONS: Final = ("mean",)


@final
class IntegratedPatches(Attribution):
    """Captum's integrated gradients (20 steps) from the image's mean colour, summed over channels and over each patch.

    Args:
        model: images → logits.
        grid: (rows, columns) of patches.
        absolute: sum |·| instead of the signed values.
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
        "TokenRank": ac.TokenRank(layers="all", balanced=False),
        "Rollout": ac.Rollout(),
        "RandomRanking": ac.RandomRanking(),
        "input magnitude": InputMagnitude(grid),
    }


def metrics() -> list[ExampleMetric]:
    return [*curve_metrics(OCCLUSIONS, FRACTIONS), *localisation_metrics()]


@final
@dataclass(frozen=True)
class Comparison:
    """The measurements on one backbone: the figures, and the model's accuracy on its images."""

    found: BenchmarkResult
    accuracy: float

    @property
    def images(self) -> int:
        return len(self.found.examples)

    @property
    def seed(self) -> int:
        return self.found.manifest["configuration"]["seed"]

    @classmethod
    def read(cls, run: Path) -> Comparison:
        """Reads the folder that `compare` wrote."""
        right = json.loads((run / "accuracy.json").read_text(encoding="utf-8"))
        return cls(BenchmarkResult.read(run, metrics(), OURS), right)


def compare(name: str, split: Any, images: int, seed: int, folder: Path) -> Comparison:
    """Measures variants of ExpectedVisits on validation images of a backbone, or all methods on test images.

    The folder keeps the run, which continues where it stopped.
    """
    model, data = load(name, folder), BACKBONES[name].data(split, images, seed)
    every, run = variants(model) if split == "validation" else methods(model), run_of(folder, name, split)
    found = benchmark(model, data, every, metrics(), baseline=OURS, seed=seed, output=run, progress=True, name=name)
    right = accuracy(model, data)
    write_text(run / "accuracy.json", json.dumps(right))
    return Comparison(found, right)


def run_of(folder: Path, name: str, split: str) -> Path:
    return folder / f"{name}-{split}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where weights and runs are kept")
    arguments = parser.parse_args()
    for name in arguments.backbone:
        made = compare(name, arguments.split, arguments.images, arguments.seed, arguments.folder)
        print(f"{name}, {made.images} {arguments.split} images, seed {made.seed}, accuracy {made.accuracy:.3f}\n")
        print(made.found.markdown() + "\n")


if __name__ == "__main__":
    main()
