"""`attnchain demo`: methods with the bundled model on test images, scores with intervals, pictures, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer
from torch import Tensor, nn

from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.names import build_methods
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.bundled import bundled_vit
from attnchain_evals.metrics import curve_metrics, localisation_metrics
from attnchain_evals.report.explorer_pages import explore_image
from attnchain_evals.report.report import write_report
from attnchain_evals.tasks.cluttered_digits import ClutteredDigits
from attnchain_evals.terminal import announce, progress
from attnchain_interp import AttentionError, AttentionStore
from attnchain_interp.checks import check_whole_number
from attnchain_interp.pictures import show_bounces, show_grid, show_heads, show_layers, show_states, write_figure

BATCH = 32
FRACTIONS = (0.0, 1 / 16, 1 / 4, 3 / 4, 15 / 16, 1.0)  # dense where the evidence goes and comes, symmetric for SRG
SHOWN = 6
DEMO = (
    *("plain TokenRank", "plain MultiBounce", "Rollout", "WeightedPageRank", "ColumnSum"),
    *("class row", "class column", "centre row", "centre column", "RandomRanking", "input magnitude"),
)


class Demo(NamedTuple):
    """The scores of a demo, the model's accuracy on the images, and the written files."""

    benchmark: BenchmarkResult
    accuracy: float
    files: list[Path]


def demo_methods() -> dict[str, Any]:
    """Returns the methods of the demo: those that read attention alone in less than a second an image, and the controls."""
    return build_methods(DEMO, None, (14, 14))


def demo_digits(out: Path, images: int, seed: int) -> None:
    """Runs the demo and prints its table and the files it wrote."""
    announce(f"{len(DEMO)} methods on {images} test images: scores, pictures and an explorer page, in {out}/")
    found = run(demo_methods(), out, images, seed)
    typer.echo(f"\n{images} test images of ClutteredDigits, accuracy {found.accuracy:.3f}; mean [95 % bootstrap interval]")
    typer.echo(f"\n{found.benchmark.markdown()}\n")
    for file in found.files:
        typer.echo(file)


def run(methods: Mapping[str, Any], out: Path, images: int, seed: int, fractions: Sequence[float] = FRACTIONS) -> Demo:
    """Scores the methods on test images, and writes the table, its reports, pictures and an explorer page into `out`."""
    check_whole_number("images", images, "the number of test images, of which an interval needs two", 2)
    model = bundled_vit()
    data = ClutteredDigits("test", images, seed=seed)
    metrics = [*curve_metrics(fractions=fractions), *localisation_metrics()]
    result = benchmark(model, data, methods, metrics, batch_size=BATCH, seed=seed, output=out, progress=True, name="bundled")
    files = write_report(result, out)
    first = next(data.batches(min(SHOWN, images)))
    shared = SharedCapture(model, first.image)
    store, maps = shared.store, {name: shared.scores(method) for name, method in methods.items()}
    figures = {
        "attributions.png": lambda: show_grid({"mask": first.mask, **maps}, first.image, share="none"),
        "layers.png": lambda: show_layers(store, first.image[0]),
        "bounces.png": lambda: show_bounces(store, first.image[0], start=patch_on(first.mask[0], store)),
        "heads.png": lambda: show_heads(store),
        "states.png": lambda: show_states(store, first.image),
    }
    files += [write_figure(draw(), out / name) for name, draw in progress([*figures.items()], "pictures")]
    page = explore_image(model, first.image[:1], title="bundled · test image 0").write(out / "explorer.html")
    return Demo(result, _accuracy(model, data), [*files, page])


def patch_on(mask: Tensor, store: AttentionStore) -> int:
    """Returns the position of the token whose patch the mask (height, width) covers most."""
    if store.tokens.grid is None:
        raise AttentionError("the store has no image grid.", "Capture a model of images.")
    covered = nn.functional.adaptive_avg_pool2d(mask[None].float(), store.tokens.grid).flatten()
    patches = store.tokens.select("patch")[0].nonzero()[:, 0]
    return int(patches[covered.argmax()])


@torch.no_grad()
def _accuracy(model: nn.Module, data: ClutteredDigits) -> float:
    right = torch.cat([model(batch.image).argmax(1) == batch.label for batch in data.batches(BATCH)])
    return float(right.float().mean())
