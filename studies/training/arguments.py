"""The command line of a training script."""

from __future__ import annotations

import argparse
from pathlib import Path


def training_arguments(description: str | None, out: Path) -> argparse.ArgumentParser:
    """Returns a parser with `--seed` and `--output`.

    Args:
        description: the docstring of the script.
        out: the default place of the weights.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=out, help="where the weights go (safetensors): %(default)s")
    return parser


def image_training_arguments(description: str | None, out: Path, images: int) -> tuple[int, int, Path]:
    """Parses the command line of a script that draws training images; returns `--images`, `--seed` and `--output`."""
    parser = training_arguments(description, out)
    parser.add_argument("--images", type=int, default=images, help="training images to draw: %(default)s")
    arguments = parser.parse_args()
    return arguments.images, arguments.seed, arguments.output
