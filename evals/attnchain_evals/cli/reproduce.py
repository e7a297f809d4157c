"""`attnchain reproduce`: imagenet-segmentation, coco-segmentation, flux-segmentation, token-masking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attnchain_evals.bench.model_loading import MODEL, check_model
from attnchain_evals.cli.figure import Heads
from attnchain_evals.cli.outputs import check_folder
from attnchain_evals.terminal import announce, as_usage

if TYPE_CHECKING:
    from attnchain_evals.reproduce.experiment import Settings

app = typer.Typer(no_args_is_help=True, help="Published experiments on real weights and data, beside the published numbers.")

GTSEGS = "imagenet-segmentation:gtsegs_ijcv.mat"
Output = Annotated[Path, typer.Option("--output", "-o", help="folder of the run; the same command goes on with it")]
Model = Annotated[str, typer.Option(help=MODEL)]
Limit = Annotated[int | None, typer.Option(min=1, help="images at most; for testing only, and marked so")]
BatchSize = Annotated[str, typer.Option(help="images a forward, or auto")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; cuda where there is one if not given")]


@app.command("imagenet-segmentation")
def imagenet_segmentation(
    output: Output,
    data: Annotated[str, typer.Option(help="see `bench ls data`; with masks")] = GTSEGS,
    model: Model = "timm:vit_small_patch8_224.dino",
    sweep: Annotated[
        bool, typer.Option("--sweep", help="1 to 8 bounces instead: chosen on validation images, judged on the others")
    ] = False,
    limit: Limit = None,
    batch_size: BatchSize = "32",
    device: Device = None,
) -> None:
    """Measures pixel accuracy, mean IoU and mean AP of attention maps, as Chefer et al. define them."""
    from attnchain_evals.reproduce import imagenet_segmentation as experiment

    measure = experiment.sweep_bounces if sweep else experiment.imagenet_segmentation
    _show(measure(_settings(output, data, model, limit, batch_size, device)))


@app.command("coco-segmentation")
def coco_segmentation(
    output: Output,
    data: Annotated[Path, typer.Option(help="folder with annotations/panoptic_SPLIT.json, its PNG files and SPLIT/")] = Path(
        "coco"
    ),
    split: Annotated[Literal["val2017", "train2017"], typer.Option(help="of the data")] = "val2017",
    model: Model = "hf:facebook/dinov2-small",
    limit: Limit = None,
    device: Device = None,
) -> None:
    """Measures the regions of attention by accuracy, mean IoU of 27 classes (matched in each image) and covering."""
    from attnchain_evals.reproduce.coco_segmentation import coco_segmentation as measure

    _show(measure(_settings(output, str(data), model, limit, "1", device, of_folder=True), split))


@app.command("flux-segmentation")
def flux_segmentation(
    output: Output,
    data: Annotated[str, typer.Option(help="imagenet-segmentation:PATH, the published gtsegs_ijcv.mat")] = GTSEGS,
    model: Annotated[
        str, typer.Option(help="a pipeline of diffusers, on the hub or in a folder")
    ] = "black-forest-labs/FLUX.1-schnell",
    size: Annotated[int, typer.Option(min=8, help="side of the square that images are squeezed to, in pixels")] = 512,
    timestep: Annotated[float, typer.Option(help="noise level of the images, of the scheduler's (mostly 1,000)")] = 250,
    heads: Heads = "lambda2",
    layers: Annotated[str, typer.Option(help="all, or numbers and slices with commas between: 9:19,47:57")] = "all",
    grid: Annotated[str | None, typer.Option(help="rows and columns of the tokens, of a UNet: 16x16")] = None,
    text: Annotated[int | None, typer.Option(help="text tokens asked for (max_sequence_length)")] = None,
    dtype: Annotated[Literal["float32", "float16", "bfloat16"], typer.Option(help="of the weights")] = "float32",
    offload: Annotated[
        bool, typer.Option("--offload", help="keeps one model at a time on the device, the others on the CPU")
    ] = False,
    limit: Limit = None,
    device: Device = None,
) -> None:
    """Measures the same scores for bounces from the word of the class through a diffusion model; one forward an image."""
    from attnchain_evals.reproduce import flux_segmentation as experiment

    chosen = (size, timestep, heads, experiment.layers_of(layers), experiment.grid_of(grid), text, dtype, offload)
    settings = _settings(output, data, model, limit, "1", device, of_pipeline=True)
    _show(experiment.flux_segmentation(settings, experiment.Options(*chosen)))


@app.command("token-masking")
def token_masking(
    output: Output,
    data: Annotated[str, typer.Option(help="see `bench ls data`; with labels")] = "classes:imagenet/val",
    model: Model = "timm:vit_base_patch16_224.augreg_in1k",
    limit: Limit = None,
    batch_size: BatchSize = "32",
    device: Device = None,
) -> None:
    """Measures the area under the accuracy curve while the highest-ranked, or lowest-ranked, tokens are masked."""
    from attnchain_evals.reproduce.token_masking import token_masking as measure

    _show(measure(_settings(output, data, model, limit, batch_size, device)))


def _show(page: str) -> None:
    """Prints the page, in the first process only."""
    from attnchain_evals.bench.runner import Share

    if Share.from_environment().rank == 0:
        typer.echo(page)


def _settings(
    output: Path,
    data: str,
    model: str,
    limit: int | None,
    batch_size: str,
    device: str | None,
    *,
    of_folder: bool = False,
    of_pipeline: bool = False,
) -> Settings:
    """Checks the options before anything is loaded. Data of a folder, and a pipeline of diffusers, are no names of a bench."""
    from attnchain_evals.bench.data_names import check_data
    from attnchain_evals.bench.experiment import batch_size_of, device_named
    from attnchain_evals.reproduce.experiment import Settings

    with as_usage():
        check_folder(output)
        if not of_pipeline:
            check_model(model)
        if not of_folder:
            check_data(data)
        device_named(device)
        examples = batch_size_of(batch_size)
    announce(f"A published experiment, {model} on {data}: rows and reproduction.md, in {output}/; it goes on where it was")
    return Settings(data, model, output, limit, examples, device)
