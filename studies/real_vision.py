"""Methods on photographs, with a really trained backbone: `python -m studies.real_vision WEIGHTS DATA`.

`attnchain fetch dinov2-small FOLDER` fetches the weights. DATA holds `ecssd/{validation,test}/{images,masks}` and
`caltech20/{train,validation,test}/CLASS`. The model is the backbone with a linear probe of the classes, which is fitted to the
training images. Settings are chosen with `--split validation`; docs/real-vision.md reports the
test photographs. A killed run goes on where it stopped. With `--page` nothing is measured: the page is made of
docs/real-vision.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attnchain_evals import ClassFolder, ImageFolder, LinearProbe
from attnchain_evals.bench.model_loading import load
from attnchain_evals.metrics import MeanAP, MeanIoU, PixelAccuracy, preset
from attnchain_interp import capture
from studies.real_runs import Summary, Task, keep, measure, section, versions
from studies.report_pages import ROOT, kept

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
    "TokenRank(balanced=False)",
    "TokenRank(layers='all')",
    "TokenRank(layers='all', balanced=False)",
)
OTHERS: Final = (
    BASELINE,
    "ColumnSum(layers='all')",
    "MultiBounce(steps=1, balanced=False)",
    "Rollout",
    "ContributionRollout",
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
    "ContributionRollout",
    "AttnLRP",
    "GradientTokenRank",
    BASELINE,
    "ColumnSum(layers='all')",
    "RandomRanking",
)

OBJECTS: Final = Task(
    "Objects",
    "Does the map outline the object of a photograph? The threshold is the map's mean.",
    (*OURS, *OTHERS),
    [MeanIoU(), MeanAP(), PixelAccuracy()],
    limit=200,
)
CLASSES: Final = Task(
    "Classes",
    "Which patches does a linear probe's class depend on? The highest are dropped first; the lowest area is the best.",
    RANKINGS,
    [preset("token-masking")],
    limit=80,
)

TASKS: Final = {"objects": OBJECTS, "classes": CLASSES}
NOTES: Final = """## What still looks wrong

Fifty maps of validation photographs were looked at (MultiBounce as it is by default). Nearly all outline the object. A dark
object before a dark background is missed for its bright stand (a statue of a horse). In a crowd single faces stand out. The
brightest patch is often a head or another detail, so the body is dim where the scale ends at the maximum. Single patches at
the edge of a picture stay bright in a few.
"""


def page(found: Mapping[str, Summary]) -> str:
    """Returns the page of the tasks that were measured."""
    sections = "\n".join(section(TASKS[name], found[name]) for name in found)
    return f"""# Real photographs

By `python -m studies.real_vision`, on DINOv2-small. Settings were chosen on the validation photographs; these are the test
photographs of ECSSD (objects), and of twenty classes of Caltech-101 with a linear probe (classes), 224 pixels wide. Means
over photographs [95 % bootstrap interval]; a star marks Holm's p below 0.05 over the methods of a metric.

{sections}
{NOTES}
{versions(found.values())}
"""


def probe_of(model: Any, parts: Mapping[str, ClassFolder], folder: Path) -> LinearProbe:
    """Returns the probe that the folder keeps, or fits one to the training images and keeps it there."""
    if not folder.exists():
        LinearProbe.fit(model, parts["train"], parts["validation"]).write(folder)
    return LinearProbe.read(folder, model, parts["train"][0].image[None])


def measured(model: Any, data: Any, task: Task, folder: Path, limit: int | None) -> Summary:
    """Measures a task on images of one grid."""
    grid = capture(model, data[0].image[None], layers=-1).tokens.grid
    return measure(model, data, task, grid, folder, BASELINE, 4, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="the folder of a vision transformer of transformers")
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--output", type=Path, default=Path("real-vision"), help="the folder of the runs and of the probe")
    parser.add_argument("--page", action="store_true", help="make the page of the kept figures, and measure nothing")
    arguments = parser.parse_args()
    if arguments.page:
        found = kept(KEPT)
        keep(KEPT, found, PAGE, page(found))
        return
    loaded = load(f"hf:{arguments.model}")
    if loaded.preprocess is None:
        parser.error(f"{arguments.model} reads no images.")
    model, data, runs, preprocess = loaded.model.eval(), arguments.data, arguments.output, loaded.preprocess
    found = dict[str, Summary]()
    parts = {part: ClassFolder(data / "caltech20" / part, preprocess) for part in ("train", "validation", "test")}
    probe = probe_of(model, parts, runs / "probe")
    if "objects" in arguments.tasks:
        ecssd = ImageFolder(data / "ecssd" / arguments.split, preprocess)
        found["objects"] = measured(probe, ecssd, OBJECTS, runs / f"objects-{arguments.split}", arguments.limit)
    if "classes" in arguments.tasks:
        run = runs / f"classes-{arguments.split}"
        found["classes"] = measured(probe, parts[arguments.split], CLASSES, run, arguments.limit)
    for name, figures in found.items():
        print(section(TASKS[name], figures))
    if arguments.split == "test" and arguments.limit is None:
        found = (kept(KEPT) if (ROOT / KEPT).exists() else {}) | found
        keep(KEPT, found, PAGE, page(found))


if __name__ == "__main__":
    main()
