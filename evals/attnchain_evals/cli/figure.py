"""`attnchain figure`: layers, heads, bounces, states, toy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from attnchain_evals.bench.model_loading import MapsName, Model, check_model, load
from attnchain_evals.cli.attribute import Dpi, KeepSinks
from attnchain_evals.cli.options import check_effect
from attnchain_evals.cli.outputs import FILMS, PICTURES, check_file, made
from attnchain_evals.terminal import announce, as_usage, working

if TYPE_CHECKING:
    from attnchain_interp import AttentionStore

app = typer.Typer(no_args_is_help=True, help="Figures of a model's attention, as PDF, SVG or PNG by the file's suffix.")

MOST_STEPS = 100_000
TOY = (
    (0.01, 0.04, 0.02, 0.85, 0.08),
    (0.82, 0.04, 0.07, 0.01, 0.06),
    (0.80, 0.07, 0.03, 0.05, 0.05),
    (0.06, 0.06, 0.03, 0.04, 0.81),
    (0.53, 0.03, 0.03, 0.06, 0.35),
)

Image = Annotated[
    Path | None, typer.Argument(metavar="IMAGE", help="an image file; a test image for the bundled model if not given")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="file to write")]
Damping = Annotated[
    float, typer.Option(min=0, max=1, help="of the stationary distribution: the probability of following attention")
]
Heads = Annotated[Literal["mean", "lambda2", "inverse-lambda2"], typer.Option(help="how the heads of a layer are weighted")]

Maps = Annotated[
    MapsName,
    typer.Option(help="attention, or contributions of tokens to the blocks' outputs, one map a layer"),
]
LayerWeights = Annotated[
    Literal["mean", "late", "lambda2", "inverse-lambda2"],
    typer.Option(help="how the layers of the chain are weighted; late is by depth"),
]
Balanced = Annotated[
    bool, typer.Option("--balanced", help="balance the chain: tokens that everybody attends to lose their pull")
]


@app.command()
def layers(
    model: Model,
    image: Image = None,
    output: Output = Path("layers.pdf"),
    heads: Heads = "mean",
    damping: Damping = 0.99,
    balanced: Balanced = False,
    maps: Maps = "attention",
    dpi: Dpi = 150,
    keep_sinks: KeepSinks = False,
) -> None:
    """Draws layers × centre token's row, column sum, class token's row, TokenRank: the authors' figure."""
    from attnchain_interp.pictures import show_layers

    read = _read(model, image, maps, output)
    options: Any = {"heads": heads, "damping": damping, "balanced": balanced, "keep_sinks": keep_sinks}
    _write(show_layers(read.store, read.shown, **options), output, dpi)


@app.command()
def heads(
    model: Model,
    image: Image = None,
    output: Output = Path("heads.pdf"),
    order: Annotated[
        Literal["head", "lambda2"], typer.Option(help="of a layer's heads: by number, or slowest first")
    ] = "head",
    damping: Damping = 0.99,
    maps: Maps = "attention",
    dpi: Dpi = 150,
    keep_sinks: KeepSinks = False,
) -> None:
    """Draws layers × heads: the TokenRank of every head, in a frame of the colour of its |λ₂|."""
    from attnchain_interp.pictures import show_heads

    store = _read(model, image, maps, output).store
    _write(show_heads(store, order=order, damping=damping, keep_sinks=keep_sinks), output, dpi)


@app.command()
def bounces(
    context: typer.Context,
    model: Model,
    image: Image = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="file to write; .gif and .mp4 (needs ffmpeg) are a film")
    ] = Path("bounces.pdf"),
    start: Annotated[str, typer.Option(help="center, class, uniform, or a token by number")] = "center",
    steps: Annotated[
        str, typer.Option(help="numbers of bounces with commas between; a film shows all up to the last")
    ] = "0,1,2,3,5,10",
    heads: Heads = "mean",
    damping: Damping = 0.99,
    layer_weights: LayerWeights = "mean",
    balanced: Balanced = False,
    maps: Maps = "attention",
    dpi: Dpi = 150,
    keep_sinks: KeepSinks = False,
) -> None:
    """Draws a walk from one token after n bounces and after infinitely many, or a film of the walk."""
    from attnchain_interp.pictures import animate_bounces, show_bounces

    if output.suffix in FILMS:
        with as_usage():
            check_effect(context, ("dpi", "keep_sinks"), "on a film", "write --output NAME.png")
    begin = int(start) if start.lstrip("-").isdecimal() else start
    numbers = _numbers(steps)
    read = _read(model, image, maps, output, (*PICTURES, *FILMS))
    options: Any = {"start": begin, "heads": heads, "damping": damping, "layer_weights": layer_weights, "balanced": balanced}
    if output.suffix in FILMS:
        made(output.parent)
        animate_bounces(read.store, output, read.shown, steps=max(numbers), show_progress=sys.stderr.isatty(), **options)
        typer.echo(output)
    else:
        _write(show_bounces(read.store, read.shown, steps=numbers, **options, keep_sinks=keep_sinks), output, dpi)


@app.command()
def states(
    model: Model, image: Image = None, output: Output = Path("states.pdf"), maps: Maps = "attention", dpi: Dpi = 150
) -> None:
    """Draws the metastable states of the image as coloured regions."""
    from attnchain_interp.pictures import show_states

    read = _read(model, image, maps, output)
    _write(show_states(read.store, [read.shown]), output, dpi)


@app.command()
def toy(
    output: Output = Path("toy.pdf"),
    start: Annotated[str, typer.Option(help="a token by number, 0 to 4, or uniform")] = "4",
    steps: Annotated[str, typer.Option(help="numbers of bounces with commas between")] = "0,1,2",
    dpi: Dpi = 150,
) -> None:
    """Draws the authors' chain of five tokens as a graph, with the walk after n bounces."""
    import torch

    from attnchain_interp import AttentionError
    from attnchain_interp.pictures import show_chain

    if start != "uniform" and not start.isdecimal():
        raise AttentionError(f"--start is {start!r}; it is a token or uniform.", "Write a number from 0 to 4, or uniform.")
    with as_usage():
        check_file(output, PICTURES)
    announce(f"A figure of a chain of five tokens: {output}")
    _write(show_chain(torch.tensor(TOY), None if start == "uniform" else int(start), steps=_numbers(steps)), output, dpi)


class _Captured(NamedTuple):
    """The attention of an image, and the part of the image that the model reads, at its own resolution."""

    store: AttentionStore
    shown: Any


def _read(model: str, image: Path | None, maps: Any, output: Path, endings: tuple[str, ...] = PICTURES) -> _Captured:
    from attnchain_evals.bench.needs import given_by_name
    from attnchain_evals.bench.photograph import photograph
    from attnchain_interp import AttentionError, capture

    with as_usage():
        check_model(model)
        check_file(output, endings, [] if image is None else [image])
    if image is None and model != "bundled" and "images" in given_by_name(model):
        raise AttentionError(f"{model} needs an image.", f"Write attnchain figure … {model} photo.jpg")
    announce(f"A figure of {image or 'a test image'} by {model}: {output}")
    loaded = load(model)
    if loaded.preprocess is None:
        raise AttentionError(
            f"{model} takes no images, and these figures show images.", "See its tokens with `attnchain inspect`."
        )
    photo = photograph(loaded, image)
    if (whole := photo.shown.shape[0] * photo.shown.shape[1]) > (part := photo.read.shape[0] * photo.read.shape[1]):
        announce(f"The model reads {part / whole:.0%} of {image}, and the figure shows this part.")
    with working("capturing attention"):
        return _Captured(capture(loaded.model, photo.pixels, maps=maps), photo.read)


def _write(figure: Any, path: Path, dpi: int) -> None:
    from attnchain_interp.pictures import write_figure

    made(path.parent)
    typer.echo(write_figure(figure, path, dpi))


def _numbers(text: str) -> list[int]:
    from attnchain_interp import AttentionError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) <= MOST_STEPS for part in parts):
        raise AttentionError(
            f"--steps is {text!r}; it lists numbers of bounces, of which at most {MOST_STEPS} are shown.",
            "Write numbers with commas between: 0,1,2,5.",
        )
    return [int(part) for part in parts]
