"""The diffusion job end to end: samples by guidance and segmentation without words, small; tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attnchain_evals.bundled.diffusion_model import bundled_diffusion
from attnchain_evals.report.diffusion_figures import region_figure, sample_figure
from attnchain_evals.reproduce.diffusion_study import (
    SegmentationStudy,
    guidance_tables,
    segmentation_table,
    study_guidance,
    study_segmentation,
)
from attnchain_evals.reproduce.digit_segmentation import BRIGHTNESS, CEILING, READINGS, Reading, attention_of, found, points
from attnchain_evals.reproduce.guided_samples import sample
from attnchain_evals.tasks.textured_digits import Example, TexturedDigits
from attnchain_interp.files import write_text
from attnchain_interp.pictures import show_bounces, write_figure

SHOWN = 10  # samples of each guidance; of the images half as many
SCALES = (1.0, 2.0)
SEEDS = 3
DEMO_READINGS = tuple(reading for reading in READINGS if reading.timestep == 50 and reading.heads == "lambda2")


class DiffusionDemo(NamedTuple):
    """What a demo of the diffusion model found, and the files it wrote."""

    tables: str
    files: list[Path]


def run(
    out: Path,
    images: int,
    seed: int,
    steps: int = 10,
    readings: Sequence[Reading] = DEMO_READINGS,
    say: Callable[[str], object] = lambda line: None,
) -> DiffusionDemo:
    """Segments `images` images, samples half as many for each seed and guidance, and writes tables and pictures into `out`.

    Raises:
        AttentionError: fewer than two images, of which no score can be computed.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipe = bundled_diffusion()
    samples = max(2, images // 2)
    sets = {"scales": SCALES, "images": samples, "choosing_seeds": 1, "seeds": SEEDS, "steps": steps, "classes": True}
    guidance = study_guidance(pipe, **sets, seed=seed, say=say)
    validation = next(TexturedDigits("validation", images, seed=seed).batches(images))
    test = next(TexturedDigits("test", images, seed=seed).batches(images))
    segmentation = study_segmentation(pipe, validation, test, readings)
    tables = (
        f"Samples: {samples} for each of {SEEDS} seeds, {steps} steps; mean [95 % interval over seeds]. Figures of the full"
        f" study are in docs/diffusion-results.md.\n\n{guidance_tables(guidance)}\n"
        f"Segments: {images} test images, choices on as many validation images; mean [95 % bootstrap interval].\n\n"
        f"{segmentation_table(segmentation)}"
    )
    write_text(out / "tables.md", tables)
    shown = {str(one): sample(pipe, one, SHOWN, seed, steps, classes=True)[0] for one in guidance.reported}
    files = [out / "tables.md", write_figure(sample_figure(shown), out / "samples.png")]
    return DiffusionDemo(tables, files + segmentation_pictures(pipe, segmentation, test, out))


def segmentation_pictures(pipe: Any, study: SegmentationStudy, test: Example, out: Path, prefix: str = "") -> list[Path]:
    """The files of the walk from a point and of what each method finds."""
    few = Example(*(field[: SHOWN // 2] for field in test))
    chosen = {name: choice for name, choice in study.chosen.items() if name not in (BRIGHTNESS, CEILING)}
    store = attention_of(pipe, few.image, chosen["multi-bounce from a point"].reading)
    figures = {
        "bounces.png": show_bounces(store, few.image[0], start=int(points(few.mask)[0])),
        "segments.png": region_figure(few, found(pipe, few, chosen)),
    }
    return [write_figure(figure, out / f"{prefix}{name}") for name, figure in figures.items()]
