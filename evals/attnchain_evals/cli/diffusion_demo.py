"""`attnchain demo --diffusion`: samples under guidance, a walk from a point, and segmentation without words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer
from matplotlib.figure import Figure
from torch import Tensor

from attnchain_evals.bundled.diffusion_model import bundled_diffusion
from attnchain_evals.reproduce.digit_segmentation import (
    BRIGHTNESS,
    CANDIDATES,
    CEILING,
    SegmentationStudy,
    SelfAttention,
    attention_of,
    points,
    segment,
    segmentation_table,
    study_segmentation,
)
from attnchain_evals.reproduce.guided_samples import IMPORTANCES, NONE, Guidance, sample
from attnchain_evals.tasks.textured_digits import Example, TexturedDigits
from attnchain_evals.terminal import announce, progress
from attnchain_interp.files import write_text
from attnchain_interp.pictures import blank_axes, displayable, show_bounces, write_figure

SHOWN = 10  # samples of each guidance; half as many images
SCALE = 2.0
DEMO_CANDIDATES = tuple(one for one in CANDIDATES if one.timestep == 50 and one.heads == "lambda2")


class DiffusionDemo(NamedTuple):
    """The tables of a demo of the diffusion model, and the files it wrote."""

    tables: str
    files: list[Path]


def demo_diffusion(out: Path, images: int, seed: int) -> None:
    """Runs the demo of the bundled diffusion model and prints its table and the files it wrote."""
    announce(f"Samples under guidance, and the segments of {images} images: a table and pictures, in {out}/")
    demo = run(out, images, seed)
    typer.echo(f"\n{demo.tables}")
    for file in demo.files:
        typer.echo(file)


def run(
    out: Path,
    images: int,
    seed: int,
    steps: int = 10,
    candidates: Sequence[SelfAttention] = DEMO_CANDIDATES,
) -> DiffusionDemo:
    """Samples digits under each guidance, segments `images` images, and writes a table and pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    pipe = bundled_diffusion()
    validation = next(TexturedDigits("validation", images, seed=seed).batches(images))
    test = next(TexturedDigits("test", images, seed=seed).batches(images))
    samples: dict[str, Any] = {}
    for guidance in progress([NONE, *(Guidance(name, SCALE) for name in IMPORTANCES)], "guidances"):
        samples[str(guidance)] = sample(pipe, guidance, SHOWN, seed, steps, classes=True)[0]
    picture = write_figure(sample_figure(samples), out / "samples.png")
    segmentation = study_segmentation(pipe, validation, test, candidates)
    tables = (
        f"Segments: {images} test images, choices on as many validation images; mean [95 % bootstrap interval]. The full"
        " study, with scores of samples under guidance, is in docs/diffusion-results.md.\n\n"
        f"{segmentation_table(segmentation)}"
    )
    write_text(out / "tables.md", tables)
    return DiffusionDemo(tables, [out / "tables.md", picture, *segmentation_pictures(pipe, segmentation, test, out)])


def segmentation_pictures(pipe: Any, study: SegmentationStudy, test: Example, out: Path, prefix: str = "") -> list[Path]:
    """Draws the walk from a point and the segments of each method; returns the files."""
    few = Example(*(field[: SHOWN // 2] for field in test))
    chosen = {name: choice for name, choice in study.chosen.items() if name not in (BRIGHTNESS, CEILING)}
    store = attention_of(pipe, few.image, chosen["multi-bounce from a point"].attention)
    figures = {
        "bounces.png": show_bounces(store, few.image[0], start=int(points(few.mask)[0])),
        "segments.png": region_figure(few, segment(pipe, few, chosen)),
    }
    return [write_figure(figure, out / f"{prefix}{name}") for name, figure in figures.items()]


def sample_figure(samples: Mapping[str, Tensor]) -> Figure:
    """Draws one row of samples (sample, 1, height, width) for each guidance. The samples of a column share their noise."""
    figure, axes = blank_axes(len(samples), max(map(len, samples.values())), cell=0.9)
    for row, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(row, images, strict=False):
            axis.imshow(displayable(image))
        place = {"rotation": 90, "va": "center", "ha": "right", "transform": row[0].transAxes}
        row[0].text(-0.06, 0.5, name.replace(", ", "\n"), fontsize=6, **place)
    return figure


def region_figure(batch: Example, regions: Mapping[str, Tensor]) -> Figure:
    """Draws one row for each image: the image, its mask, and the segments (batch, height, width) of each method.

    White (1) is the object, dark (0) the background, grey (−1) neither.
    """
    figure, axes = blank_axes(len(batch.image), 2 + len(regions), cell=1.1)
    for row, image, mask, *found in zip(axes, batch.image, batch.mask, *regions.values(), strict=True):
        row[0].imshow(displayable(image))
        for axis, region in zip(row[1:], [mask.long(), *found], strict=True):
            axis.imshow(region.float().masked_fill(region < 0, 0.5).numpy(), cmap="gray", vmin=-0.15, vmax=1)
    for axis, title in zip(axes[0], ["input", "mask", *regions], strict=True):
        axis.set_title(title.replace(", ", ",\n").replace(" from ", "\nfrom ").replace(" states", "\nstates"), fontsize=6)
    return figure
