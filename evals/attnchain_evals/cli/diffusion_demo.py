"""`attnchain demo --diffusion`: samples under guidance, and a walk from a point on a digit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import NO_CLASS, bundled_diffusion
from attnchain_evals.bundled.guided_samples import IMPORTANCES, NONE, Guidance, sample
from attnchain_evals.cli.digits_demo import patch_on
from attnchain_evals.tasks.textured_digits import TexturedDigits
from attnchain_evals.terminal import announce, progress
from attnchain_interp.pictures import blank_axes, displayable, show_bounces, write_figure

SHOWN = 10  # samples of each guidance
SCALE = 2.0


def demo_diffusion(out: Path, seed: int) -> None:
    """Runs the demo of the bundled diffusion model and prints the files it wrote."""
    announce(f"Samples under guidance, and a walk over an image: two pictures, in {out}/")
    for file in run(out, seed):
        typer.echo(file)


def run(out: Path, seed: int, steps: int = 10) -> list[Path]:
    """Samples digits under each guidance, walks over a test image, and draws both into `out`; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    pipe = bundled_diffusion()
    samples: dict[str, Tensor] = {}
    for guidance in progress([NONE, *(Guidance(name, SCALE) for name in IMPORTANCES)], "guidances"):
        samples[str(guidance)] = sample(pipe, guidance, SHOWN, seed, steps, classes=True)[0]
    image, _, mask = next(TexturedDigits("test", 1, seed=seed).batches(1))
    noise, unasked = torch.Generator().manual_seed(0), torch.tensor([NO_CLASS])
    with ac.diffusion.capture_pipeline(pipe, grid=(16, 16), heads="lambda2") as read:
        ac.diffusion.denoise_image(pipe, image, timestep=50, generator=noise, class_labels=unasked)
    walk = show_bounces(read.store, image[0], start=patch_on(mask[0], read.store))
    return [write_figure(sample_figure(samples), out / "samples.png"), write_figure(walk, out / "walk.png")]


def sample_figure(samples: Mapping[str, Tensor]) -> Figure:
    """Draws one row of samples (sample, 1, height, width) for each guidance. The samples of a column share their noise."""
    figure, axes = blank_axes(len(samples), max(map(len, samples.values())), cell=0.9)
    for row, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(row, images, strict=False):
            axis.imshow(displayable(image))
        place = {"rotation": 90, "va": "center", "ha": "right", "transform": row[0].transAxes}
        row[0].text(-0.06, 0.5, name.replace(", ", "\n"), fontsize=6, **place)
    return figure
