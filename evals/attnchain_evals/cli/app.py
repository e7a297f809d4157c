"""The command `attnchain`: demo, fetch, attribute, segment, explore, figure, inspect, bench, reproduce."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

try:
    import typer
except ImportError as error:
    raise SystemExit(f"{error}. The command line needs: pip install 'attnchain-interp[evals]'") from error

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)

from attnchain_evals.bench.model_loading import Model, load  # noqa: E402
from attnchain_evals.cli.attribute import attribute  # noqa: E402 - needs typer, whose absence is explained above
from attnchain_evals.cli.bench import app as bench  # noqa: E402
from attnchain_evals.cli.explore import explore  # noqa: E402
from attnchain_evals.cli.fetch import fetch  # noqa: E402
from attnchain_evals.cli.figure import app as figure  # noqa: E402
from attnchain_evals.cli.reproduce import app as reproduce  # noqa: E402
from attnchain_evals.cli.segment import segment  # noqa: E402
from attnchain_evals.terminal import working  # noqa: E402

app.command()(attribute)
app.command()(explore)
app.command()(fetch)
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
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the table and the pictures")] = Path("attnchain-demo"),
    images: Annotated[int, typer.Option(help="test images to score")] = 64,
    seed: Annotated[int, typer.Option(help="of the test images")] = 0,
    diffusion: Annotated[bool, typer.Option("--diffusion", help="the bundled diffusion model: guidance, segments")] = False,
    real: Annotated[bool, typer.Option("--real", help="real models: objects of photographs, sources of an answer")] = False,
    photos: Annotated[Path | None, typer.Option(help="with --real: a folder of photographs; three if not given")] = None,
    weights: Annotated[Path | None, typer.Option(help="with --real: the folder of `attnchain fetch`")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="with --real: fetch the models that are not there")] = False,
) -> None:
    """Scores every method with the bundled model on its test images, and draws pictures; or reads real models."""
    if real:
        from attnchain_evals.cli.real_demo import real_models
        from attnchain_evals.cli.real_demo import run as run_real

        for file in run_real(out, photos, real_models(weights, fetch), typer.echo):
            typer.echo(file)
        return
    if diffusion:
        from attnchain_evals.cli.diffusion_demo import demo_diffusion

        demo_diffusion(out, images, seed)
        return
    from attnchain_evals.cli.demo import run

    found = run(demo_methods(), out, images, seed)
    typer.echo(f"\n{images} test images of ClutteredDigits, accuracy {found.accuracy:.3f}; mean [95 % bootstrap interval]")
    typer.echo(f"\n{found.benchmark.markdown()}\n")
    for file in found.files:
        typer.echo(file)


@app.command()
def inspect(
    model: Model,
    strong: Annotated[bool, typer.Option("--strong", help="also overwrite each layer's map: the output must move")] = False,
    kind: Annotated[str | None, typer.Option(help="encoder, decoder, cross or pool")] = None,
    tower: Annotated[str | None, typer.Option(help="of a model of several: text, vision, …")] = None,
    maps: Annotated[str, typer.Option(help="attention, or contributions: norm, projection or alti")] = "attention",
) -> None:
    """Prints the capture of a model on a sample input: layers, heads, tokens, route, row sums. --strong verifies it."""
    from attnchain_interp import AttentionError, capture, prove

    loaded, read = load(model), cast("Any", maps)
    reading = replace(loaded.reading, kind=kind, tower=tower)
    with working("capturing attention"):
        store = capture(loaded.model, reading=reading, maps=read, **loaded.sample)
    typer.echo(
        f"{model}: {store.metadata['model']} by the {store.metadata['adapter']} adapter, route {store.metadata['route']}"
    )
    typer.echo(store.tokens.described)
    for layer in store:
        sums = layer.maps.double().sum(-1)
        typer.echo(
            f"{layer.name:<40} {layer.heads:>3} heads  {layer.maps.shape[-1]:>5} tokens"
            f"  row sums {float(sums.min()):.6f} … {float(sums.max()):.6f}"
        )
    if strong:
        with working("overwriting one layer after the other"):
            proof = prove(loaded.model, reading=reading, **loaded.sample)
        typer.echo(
            f"with the captured maps in the model's place its output deviates by {proof.deviation:.1e} of its greatest entry"
        )
        for layer in proof.layers:
            typer.echo(f"{layer.name:<40} overwritten, the output moves by {layer.moved:.1e}")
        if not proof.holds:
            raise AttentionError(
                "these are not the maps that the model uses, or a layer does not count.",
                "Please report the model.",
            )
        typer.echo("the strong check holds")


def main() -> None:
    """Runs the command line. Prints an expected error as its cause and its fix; raises every other error."""
    try:
        app()
    except (ImportError, OSError, ValueError) as error:
        from attnchain_interp import AttentionError

        if not isinstance(error, AttentionError | ImportError | OSError):
            raise
        text = str(error) if isinstance(error, AttentionError) else " ".join(str(error).split())
        typer.echo(f"error: {text}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
