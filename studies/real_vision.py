"""Methods on photographs, with a really trained backbone: `python -m studies.real_vision WEIGHTS DATA`.

`attnchain fetch dinov2-small -o FOLDER` fetches the weights. DATA holds `ecssd/{validation,test}/{images,masks}` and
`caltech20/{train,validation,test}/CLASS`. The model is the backbone with a linear probe of the classes, which is fitted to the
training images. Settings are chosen with `--split validation`; docs/real-vision.md reports the
test photographs. A killed run continues where it stopped. With `--page` nothing is measured: the page is made of
docs/real-vision.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from attnchain_evals import ClassFolder, ImageFolder, LinearProbe
from attnchain_evals.bench.model_loading import load
from attnchain_evals.bench.tables import figure
from attnchain_evals.metrics import MeanAP, MeanIoU, PixelAccuracy, preset
from attnchain_evals.tasks.examples import Selection
from attnchain_interp import AttentionError, capture
from studies.real_runs import Summary, Task, carry_out, measure, section, versions

KEPT: Final = "docs/real-vision.json"
PAGE: Final = "docs/real-vision.md"
BASELINE: Final = "ColumnSum(layers=[-2, -1])"
OURS: Final = (
    "MultiBounce",
    "MultiBounce(steps=3)",
    "MultiBounce(balanced=False)",
    "MultiBounce(layers='all', balanced=False)",
    "MultiBounce(maps='alti', balanced=False)",
    "TokenRank",
    "LogitTokenRank",
    "TokenRank(balanced=False)",
    "TokenRank(layers='all')",
    "TokenRank(layers='all', balanced=False)",
)
OTHERS: Final = (
    BASELINE,
    "ColumnSum(layers='all')",
    "MultiBounce(steps=1, balanced=False)",
    "Rollout",
    "Rollout(maps='alti')",
    "centre prior",
    "feature component",
    "RandomRanking",
)
RANKINGS: Final = (
    "TokenRank",
    "TokenRank(layers='all')",
    "TokenRank(layers='all', balanced=False)",
    "MultiBounce",
    "MultiBounce(layers='all', balanced=False)",
    "Rollout(maps='alti')",
    "AttnLRP",
    "LogitTokenRank",
    "GradientTokenRank",
    "ExpectedVisits",
    "GradientAttention",
    "GradientRollout",
    "LeGrad",
    "GMAR",
    "TransitionAttentionMaps",
    BASELINE,
    "ColumnSum(layers='all')",
    "RandomRanking",
)

OBJECTS: Final = Task(
    "Objects",
    "Does the map outline the object of a photograph? The threshold is the map's mean.",
    (*OURS, *OTHERS),
    [MeanIoU(), MeanAP(), PixelAccuracy()],
    limit=100,
)
CLASSES: Final = Task(
    "Classes",
    "Which patches does a linear probe's class depend on? The highest are dropped first; the lowest area is the best.",
    RANKINGS,
    [preset("token-masking")],
)
EVERY: Final = 10  # photograph of the classes, whose folders hold twenty each
SIDE: Final = 336  # pixels of the photographs with objects: 24 × 24 patches; the classes have the 224 of the model

TASKS: Final = {"objects": OBJECTS, "classes": CLASSES}
NOTES: Final = """## Class-specific methods

Of the methods that read gradients, GradientTokenRank has the lowest area of masking. GradientAttention, GradientRollout and
ExpectedVisits follow; their intervals overlap. Rollout of contributions reads no class and has as low an area as
GradientTokenRank. Nearly all photographs show one object, so here a class and its object are one question.

## What still looks wrong

The authors looked at maps of fifty validation photographs, by MultiBounce with its defaults. Nearly all maps outline the
object. One map misses a dark object before a dark background, and shows its bright stand (a statue of a horse). In a crowd
single faces stand out. The brightest patch is often a head or another detail, so the body is dim on a scale that ends at
the maximum. In a few maps single patches at the edge of the picture stay bright.
"""


def masking(found: Summary) -> str:
    """Returns sentences: whether TokenRank's area lies below that of the column sum, of its own layers and of all."""
    gap = found["differences"]["TokenRank"]["token-masking"]
    ranks, sums = (
        found["scores"][name]["token-masking"]["value"]
        for name in ("TokenRank(layers='all', balanced=False)", "ColumnSum(layers='all')")
    )
    says = "below" if gap["high"] < 0 else "above" if gap["low"] > 0 else "not told apart from"
    return (
        "\nThe paper's masking experiment: how much of the class is left without the patches that a criterion ranks highest?"
        f" TokenRank's area is {says} that of the column sum of the same layers ({figure(gap)})."
        f" Of all layers, as published, TokenRank has {ranks:.3f} and the column sum {sums:.3f}.\n"
    )


def page(found: Mapping[str, Summary]) -> str:
    """Returns the page of the tasks that were measured."""
    sections = "\n".join(section(TASKS[name], found[name]) for name in found) + "".join(
        masking(found[name]) for name in found if name == "classes"
    )
    return f"""# Real photographs

Which method outlines the object of a photograph, and which finds the patches that a class depends on? This page compares
methods on DINOv2-small. `python -m studies.real_vision` writes it. Settings were chosen on the validation photographs. The
figures are of the test photographs of ECSSD (objects, {SIDE} pixels wide), and of twenty classes of Caltech-101 with a
linear probe (classes, 224 pixels wide). Figures are means over photographs [95 % bootstrap interval]. A star marks Holm's p
below 0.05 over the methods of a metric. [Evaluation](evaluation.md#presets) defines the metrics.

{sections}
{NOTES}
{versions(found.values())}
"""


def wider(folder: Path) -> Callable[[Any], Tensor]:
    """Returns the preprocessing of a model, for photographs of `SIDE` pixels: resized and cropped in the same proportions."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    edge = round(processor.size["shortest_edge"] * SIDE / processor.crop_size["height"])
    sizes = {"size": {"shortest_edge": edge}, "crop_size": {"height": SIDE, "width": SIDE}}
    return lambda image: processor(images=image, return_tensors="pt", **sizes)["pixel_values"]


def probe_of(model: Any, parts: Mapping[str, ClassFolder], folder: Path) -> LinearProbe:
    """Returns the probe that the folder keeps, or fits one to the training images and keeps it there."""
    if not folder.exists():
        LinearProbe.fit(model, parts["train"], parts["validation"]).write(folder)
    return LinearProbe.read(folder, model, parts["train"][0].image[None])


def of_task(model: Any, data: Any, task: Task, folder: Path, limit: int | None) -> Summary:
    """Measures a task on images of one grid, and prints its section."""
    grid = capture(model, data[0].image[None], layers=-1).tokens.grid
    found = measure(model, data, task, grid, folder, BASELINE, 4, limit)
    print(section(task, found))
    return found


def measured(options: argparse.Namespace) -> dict[str, Summary]:
    """Measures the tasks with one probe."""
    loaded = load(f"hf:{options.model}")
    preprocess = loaded.preprocess
    if preprocess is None:
        raise AttentionError(f"{options.model} reads no images.", "Pass the folder of a vision transformer.")
    model, data, runs = loaded.model.eval(), options.data, options.output
    parts = {part: ClassFolder(data / "caltech20" / part, preprocess) for part in ("train", "validation", "test")}
    probe = probe_of(model, parts, runs / "probe")
    shown = parts[options.split]
    images = {
        "objects": ImageFolder(data / "ecssd" / options.split, wider(options.model)),
        "classes": Selection(shown, range(0, len(shown), EVERY)),
    }
    return {
        name: of_task(
            probe, images[name], TASKS[name].of(options.methods, BASELINE), runs / f"{name}-{options.split}", options.limit
        )
        for name in options.tasks
    }


if __name__ == "__main__":
    carry_out(str(__doc__), [*TASKS], measured, KEPT, PAGE, page)
