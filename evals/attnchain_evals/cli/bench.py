"""`attnchain bench`: run, ls, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from attnchain_evals.bench.model_loading import ANY_MODEL
from attnchain_evals.cli.options import check_effect
from attnchain_evals.cli.outputs import check_folder
from attnchain_evals.terminal import announce, as_usage, working

app = typer.Typer(no_args_is_help=True, help="Methods × metrics × data, kept row by row and resumed where it stopped.")


@app.command()
def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the run; the same command goes on with it")],
    config: Annotated[
        Path | None, typer.Option(help=".toml or .json with these options and `grid`; flags override it")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"{ANY_MODEL}; bundled if not given"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="see `bench ls data`; digits:validation if not given")] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="a linear probe in the head's place: a kept one, or a folder with train/ and validation/"),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="names with commas between; settings as MultiBounce(steps=3); some if not given."
            " `bench ls methods --model MODEL` lists those that fit a model"
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="names with commas between; all that the data allow if not given")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="the method to compare with; Rollout if not given")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="examples a forward, or auto; 32 if not given, 1 of prompts that differ in length")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="examples at most; for testing only, and marked so")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of whatever is random; 0 if not given")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; cuda where there is one if not given")] = None,
    sanity: Annotated[int | None, typer.Option(min=0, help="examples for sanity checks; none if not given")] = None,
) -> None:
    """Measures, and writes the table and the reports. Processes of torchrun or `accelerate launch` share the work."""
    given = {name: value for name, value in locals().items() if name not in ("output", "config") and value is not None}

    from attnchain_evals.bench.experiment import carry_out, check_options
    from attnchain_evals.bench.runner import Share
    from attnchain_evals.bench.settings import BenchSettings
    from attnchain_evals.report.report import write_report

    with as_usage():
        settings = BenchSettings.of(given, config)
        check_folder(output)
        check_options(settings)
    announce(f"A benchmark of {settings.model} on {settings.data}: rows and reports, in {output}/; it goes on where it was")
    result = carry_out(settings, output)
    if not Share.from_environment().rank:
        typer.echo("\n".join(map(str, write_report(result, output))))


@app.command()
def ls(
    context: typer.Context,
    what: Annotated[Literal["methods", "metrics", "data"], typer.Argument(metavar="WHAT", help="methods, metrics or data")],
    model: Annotated[str | None, typer.Option(help="only the methods and metrics that fit this model")] = None,
) -> None:
    """Lists the names that `bench run` knows. With --model, those that the model can be asked."""
    from attnchain_evals.bench import needs
    from attnchain_evals.bench.data_names import DATA
    from attnchain_evals.bench.model_loading import load

    if what == "data":
        with as_usage():
            check_effect(context, ("model",), "on data")
    with working(f"loading {model}"):
        given = needs.ALL if model is None else needs.given_by(load(model))
    lists = {
        "methods": lambda: needs.fitting(given),
        "metrics": lambda: needs.fitting_metrics(given),
        "data": lambda: [f"{name:<27} {text}" for name, text in DATA.items()],
    }
    typer.echo("\n".join(lists[what]()))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder of a run, finished or not")],
    baseline: Annotated[str | None, typer.Option(help="the method to compare with (that of the run)")] = None,
) -> None:
    """Writes report.md, report.json and report.html from the table alone, and prints the first."""
    from attnchain_evals.bench.experiment import read_result
    from attnchain_evals.report.report import write_report

    announce(f"The reports of {folder}, from its rows alone: {folder}/report.md, .json and .html")
    paths = write_report(read_result(folder, baseline), folder)
    typer.echo(paths[0].read_text(encoding="utf-8"))
