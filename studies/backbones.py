"""Trains small vision transformers beside the bundled one, on easier cluttered digits: `python -m studies.backbones`.

The command trains each model that the folder lacks, for some five minutes on one core, and prints the accuracy of each model
on validation and on test images. A seed fixes the result up to the rounding of the machine. A result on one model may be a
fact about that model alone. These models differ in size, and in how they read the answer: from a class token, or from the mean
of the patches.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from safetensors.torch import load_file
from timm.models import VisionTransformer

from attnchain_evals import ClutteredDigits, bundled_vit
from attnchain_evals.bundled import fresh_vit
from studies.training.vit import accuracy, train

FOLDER: Final = Path(__file__).parents[1] / ".backbones"


@final
@dataclass(frozen=True)
class Backbone:
    """A vision transformer, and the difficulty of the digits that it reads.

    Attributes:
        title: the name of the model on a page.
        architecture: as `fresh_vit` takes it.
        difficulty: of `ClutteredDigits`, in training and in every test.
        images, planned: the number of training images, and the number that the learning rate is planned for. See `train`.
    """

    title: str
    architecture: dict[str, Any]
    difficulty: float
    images: int
    planned: int

    def build(self) -> VisionTransformer:
        return fresh_vit(**self.architecture)

    def data(self, split: Any, length: int, seed: int = 0) -> ClutteredDigits:
        return ClutteredDigits(split, length, seed=seed, difficulty=self.difficulty)


TRAINED: Final = {
    "small": Backbone(
        "class token, 8 × 8 patches, width 64, 4 layers of 4 heads",
        {"patch_size": 7, "embed_dim": 64, "depth": 4, "num_heads": 4},
        difficulty=0.5,
        images=128_000,
        planned=224_000,
    ),
    "pooled": Backbone(
        "no class token, mean of 8 × 8 patches, width 64, 4 layers of 4 heads",
        {"patch_size": 7, "embed_dim": 64, "depth": 4, "num_heads": 4, "class_token": False, "global_pool": "avg"},
        difficulty=0.5,
        images=128_000,
        planned=224_000,
    ),
}
BUNDLED: Final = Backbone(
    "the bundled model: class token, 14 × 14 patches, width 96, 6 layers of 4 heads",
    {"patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 4},
    difficulty=1.0,
    images=320_000,
    planned=320_000,
)
BACKBONES: Final = {"bundled": BUNDLED, **TRAINED}


def load(name: str, folder: Path = FOLDER, seed: int = 0) -> VisionTransformer:
    """Returns a backbone in eval mode. Trains it first if the folder does not hold it."""
    if name == "bundled":
        return bundled_vit()
    weights, backbone = folder / f"{name}-{seed}.safetensors", TRAINED[name]
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = weights.with_suffix(".part")
        print(f"training {name} on {backbone.images} images", flush=True)
        train(
            backbone.images,
            seed,
            unfinished,
            build=backbone.build,
            difficulty=backbone.difficulty,
            planned=backbone.planned,
        )
        unfinished.replace(weights)
    model = backbone.build()
    model.load_state_dict(load_file(weights))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BACKBONES)}; all by default")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the weights are kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.names or BACKBONES:
        if name not in BACKBONES:
            parser.error(f"{name!r} is unknown; there are {', '.join(BACKBONES)}.")
        model, backbone = load(name, arguments.folder, arguments.seed), BACKBONES[name]
        found = {split: accuracy(model, backbone.data(split, 512)) for split in ("validation", "test")}
        print(f"{name}: {backbone.title}; accuracy " + ", ".join(f"{right:.3f} {split}" for split, right in found.items()))


if __name__ == "__main__":
    main()
