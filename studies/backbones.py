"""Trains small vision transformers besides the bundled one, on easier cluttered digits: `python -m studies.backbones`.

What is missing is trained into a folder, some five minutes each on a core of its own, and the accuracy of each is printed, on
validation and on test images. Deterministic by `--seed`, up to the rounding of the machine. What holds on one model may be a
fact about that model: these differ in size and in how the answer is read off, from a class token or from the mean of the
patches.
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
    """A vision transformer and the difficulty of the digits that it reads.

    Attributes:
        title: what it is, for a page.
        architecture: as `fresh_vit` takes it.
        difficulty: of `ClutteredDigits`, in training and ever after.
        images, planned: how many it is trained on, and how many its schedule is made for, as in `train`.
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
    """A backbone in eval mode; one that is not in the folder yet is trained first."""
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
