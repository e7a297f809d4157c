"""Regenerates the results on the bundled diffusion model: `python -m studies.diffusion` (an hour on two cores).

`python -m studies.diffusion classes`, `unconditional` or `segmentation` runs one part. Each part writes its table into
`docs/diffusion-results.md`, between its markers, and its pictures into `docs/images/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from attnchain_evals.bundled.diffusion_model import bundled_diffusion
from attnchain_evals.bundled.guided_samples import sample
from attnchain_evals.cli.diffusion_demo import sample_figure
from attnchain_evals.tasks.textured_digits import TexturedDigits
from attnchain_interp.pictures import write_figure
from studies.diffusion.digit_segmentation import segmentation_table, study_segmentation
from studies.diffusion.guidance import guidance_tables, study_guidance
from studies.diffusion.pictures import segmentation_pictures
from studies.report_pages import ROOT, between, write

PAGE: Final = "docs/diffusion-results.md"
IMAGES: Final = ROOT / "docs" / "images"
SCALES: Final = (1.0, 2.0, 4.0)
STEPS: Final = 12


def guidance(pipe: Any, images: int, choosing_seeds: int, seeds: int, classes: bool) -> str:
    """Scores guidances, draws their samples, and returns the text of the page's section."""
    study = study_guidance(
        pipe, SCALES, images, choosing_seeds, seeds, STEPS, classes, say=lambda line: print(line, flush=True)
    )
    samples = {str(one): sample(pipe, one, 10, 0, STEPS, classes)[0] for one in study.reported}
    write_figure(sample_figure(samples), IMAGES / f"diffusion-samples-{'classes' if classes else 'unconditional'}.png")
    return (
        f"{images} samples for each of {seeds} seeds, {STEPS} DDIM steps; mean [95 % interval over seeds]. Scales were chosen"
        f" by the distance on other seeds ({choosing_seeds}).\n\n{guidance_tables(study)}"
    )


def segmentation(pipe: Any, validation: int, test: int) -> str:
    """Segments images, draws the segments, and returns the text of the page's section."""
    held = next(TexturedDigits("validation", validation).batches(validation))
    batch = next(TexturedDigits("test", test).batches(test))
    study = study_segmentation(pipe, held, batch)
    segmentation_pictures(pipe, study, batch, IMAGES)
    return (
        f"{test} test images; mean [95 % bootstrap interval over images]. Choices by mean IoU on {validation} validation"
        f" images.\n\n{segmentation_table(study)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["classes", "unconditional", "segmentation"], help="all of them by default")
    parser.add_argument("--images", type=int, default=100, help="samples for each seed, and images to segment")
    parser.add_argument("--seeds", type=int, default=5, help="seeds that are reported; a fifth of them more choose the scale")
    arguments = parser.parse_args()
    images, seeds = arguments.images, arguments.seeds
    if images < 1 or seeds < 2:
        parser.error(
            f"--images is {images} and --seeds is {seeds}; intervals need an image and two seeds. Pass --seeds 2 or more."
        )
    choosing = -(-seeds // 5)
    pipe = bundled_diffusion()
    parts: dict[str, Callable[[], str]] = {
        "classes": lambda: guidance(pipe, images, choosing, seeds, classes=True),
        "unconditional": lambda: guidance(pipe, images, choosing, seeds, classes=False),
        "segmentation": lambda: segmentation(pipe, images, 2 * images),
    }
    for part in [arguments.part] if arguments.part else parts:
        begin, end = f"<!-- {part}: python -m studies.diffusion {part} -->\n", f"<!-- end of {part} -->"
        write({PAGE: between(PAGE, begin, end, parts[part]())})


if __name__ == "__main__":
    main()
