"""The command `attnchain`: demo, fetch, attribute, segment, explore, figure, inspect, bench, reproduce."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ImportError as error:
    raise SystemExit(f"{error}. The command line needs: pip install 'attnchain-interp[evals]'") from error

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)

from attnchain_evals.cli.attribute import attribute  # noqa: E402 - needs typer, whose absence is explained above
from attnchain_evals.cli.bench import app as bench  # noqa: E402
from attnchain_evals.cli.explore import explore  # noqa: E402
from attnchain_evals.cli.fetch import fetch  # noqa: E402
from attnchain_evals.cli.figure import app as figure  # noqa: E402
from attnchain_evals.cli.inspect import inspect  # noqa: E402
from attnchain_evals.cli.outputs import check_folder  # noqa: E402
from attnchain_evals.cli.reproduce import app as reproduce  # noqa: E402
from attnchain_evals.cli.segment import segment  # noqa: E402
from attnchain_evals.terminal import USAGE, announce, as_usage  # noqa: E402

UNFORESEEN = "this was not foreseen"
app.command()(attribute)
app.command()(explore)
app.command()(fetch)
app.command()(inspect)
app.command()(segment)
app.add_typer(bench, name="bench")
app.add_typer(figure, name="figure")
app.add_typer(reproduce, name="reproduce")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"attnchain-interp {version('attnchain-interp')}")
        raise typer.Exit


@app.callback()
def attnchain(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="show the version and exit")
    ] = False,
) -> None:
    """Reads transformer attention as a Markov chain: heat maps, figures, and the evidence for them."""


DEMO = (
    *("plain TokenRank", "plain MultiBounce", "Rollout", "WeightedPageRank", "ColumnSum"),
    *("class row", "class column", "centre row", "centre column", "RandomRanking", "input magnitude"),
)


def demo_methods() -> dict[str, Any]:
    """Returns the methods of the demo: those that read attention alone in less than a second an image, and the controls."""
    from attnchain_evals.bench.names import build_methods

    return build_methods(DEMO, None, (14, 14))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the table and the pictures")] = Path(
        "attnchain-demo"
    ),
    images: Annotated[int, typer.Option(min=2, help="test images to score; an interval needs two")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="of the test images")] = 0,
    diffusion: Annotated[bool, typer.Option("--diffusion", help="the bundled diffusion model: guidance, segments")] = False,
    real: Annotated[bool, typer.Option("--real", help="real models: objects of photographs, sources of an answer")] = False,
    photos: Annotated[Path | None, typer.Option(help="with --real: a folder of photographs; three if not given")] = None,
    weights: Annotated[Path | None, typer.Option(help="with --real: the folder of `attnchain fetch`")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="with --real: fetch the models that are not there")] = False,
) -> None:
    """Scores every method with the bundled model on its test images, and draws pictures; or reads real models."""
    from attnchain_interp import AttentionError

    with as_usage():
        check_folder(output)
        if not real and (photos is not None or weights is not None or fetch):
            raise AttentionError("--photos, --weights and --fetch belong to real models.", "Add --real, or leave them out.")
        if real and diffusion:
            raise AttentionError("--real and --diffusion are two demos.", "Leave one of them out.")
        if photos is not None:
            from attnchain_evals.tasks.image_folder import images_in

            images_in(photos)
    if real:
        from attnchain_evals.cli.real_demo import real_models
        from attnchain_evals.cli.real_demo import run as run_real

        announce(f"DINOv2 looks at photographs, SmolLM2 answers a question: pictures and a page, in {output}/")
        for file in run_real(output, photos, real_models(weights, fetch)):
            typer.echo(file)
        return
    if diffusion:
        from attnchain_evals.cli.diffusion_demo import demo_diffusion

        demo_diffusion(output, images, seed)
        return
    from attnchain_evals.cli.demo import run

    announce(f"{len(DEMO)} methods on {images} test images: scores, pictures and an explorer page, in {output}/")
    found = run(demo_methods(), output, images, seed)
    typer.echo(f"\n{images} test images of ClutteredDigits, accuracy {found.accuracy:.3f}; mean [95 % bootstrap interval]")
    typer.echo(f"\n{found.benchmark.markdown()}\n")
    for file in found.files:
        typer.echo(file)


def main() -> None:
    """Runs the command line. Prints an error as its cause and its fix, and ends with 2 for wrong usage, with 1 for the rest.

    Nobody reads a traceback by accident: `ATTNCHAIN_TRACEBACK=1` asks for it.
    """
    try:
        app()
    except Exception as error:
        if os.environ.get("ATTNCHAIN_TRACEBACK"):
            raise
        typer.echo(f"error: {_said(error)}", err=True)
        sys.exit(2 if USAGE in getattr(error, "__notes__", ()) else 1)


def _said(error: Exception) -> str:
    from attnchain_interp import AttentionError

    text = str(error) if isinstance(error, AttentionError) else " ".join(str(error).split())
    if isinstance(error, AttentionError | ImportError | OSError):
        return text
    return f"{UNFORESEEN}: {type(error).__name__}: {text}\nPlease report it, with what ATTNCHAIN_TRACEBACK=1 prints."


if __name__ == "__main__":
    main()
