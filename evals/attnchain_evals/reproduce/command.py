"""`attnchain reproduce`: imagenet-segmentation, token-masking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from attnchain_evals.reproduce.experiment import Settings

app = typer.Typer(no_args_is_help=True, help="Published experiments on real weights and data, beside the published numbers.")

Output = Annotated[Path, typer.Option("--output", "-o", help="folder of the run; the same command goes on with it")]
Model = Annotated[str, typer.Option(help="bundled, timm:NAME, hf:NAME or torchvision:NAME")]
Limit = Annotated[int | None, typer.Option(help="images at most; for testing only, and marked so")]
BatchSize = Annotated[str, typer.Option(help="images a forward, or auto")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; cuda where there is one if not given")]


@app.command("imagenet-segmentation")
def imagenet_segmentation(
    output: Output,
    data: Annotated[str, typer.Option(help="as `bench run` has it; with masks")] = "imagenet-segmentation:gtsegs_ijcv.mat",
    model: Model = "timm:vit_small_patch8_224.dino",
    sweep: Annotated[
        bool, typer.Option("--sweep", help="1 to 8 bounces instead: chosen on validation images, judged on the others")
    ] = False,
    limit: Limit = None,
    batch_size: BatchSize = "32",
    device: Device = None,
) -> None:
    """Pixel accuracy, mean IoU and mean AP of attention maps, as Chefer et al. define them."""
    from attnchain_evals.reproduce import imagenet_segmentation as experiment

    measure = experiment.sweep_bounces if sweep else experiment.imagenet_segmentation
    _show(measure(_settings(output, data, model, limit, batch_size, device)))


@app.command("token-masking")
def token_masking(
    output: Output,
    data: Annotated[str, typer.Option(help="as `bench run` has it; with labels")] = "classes:imagenet/val",
    model: Model = "timm:vit_base_patch16_224.augreg_in1k",
    limit: Limit = None,
    batch_size: BatchSize = "32",
    device: Device = None,
) -> None:
    """Area under the accuracy curve while the tokens that rank highest, or lowest, are masked."""
    from attnchain_evals.reproduce.token_masking import token_masking as measure

    _show(measure(_settings(output, data, model, limit, batch_size, device)))


def _show(page: str) -> None:
    """Prints the page; of several processes the first does."""
    from attnchain_evals.bench.running import Share

    if Share.from_environment().rank == 0:
        typer.echo(page)


def _settings(output: Path, data: str, model: str, limit: int | None, batch_size: str, device: str | None) -> Settings:
    from attnchain_evals.bench.experiment import batch_size_of
    from attnchain_evals.reproduce.experiment import Settings

    return Settings(data, model, output, limit, batch_size_of(batch_size), device)
