"""`attnchain bench`: run, ls, report."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Methods × metrics × data, kept row by row and resumed where it stopped.")

DEFAULTS: dict[str, Any] = {
    "model": "bundled",
    "data": "digits:validation",
    "probe": None,
    "methods": None,
    "metrics": None,
    "batch_size": None,
    "limit": None,
    "seed": 0,
    "baseline": None,
    "device": None,
    "sanity": 0,
    "grid": {},
}


@app.command()
def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the run; the same command goes on with it")],
    config: Annotated[
        Path | None, typer.Option(help=".toml or .json with these options and `grid`; flags override it")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="bundled, bundled-encoder, bundled-decoder, timm:NAME, hf:NAME or torchvision:NAME; bundled if not given"
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="see `bench ls data`; digits:validation if not given")] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="a linear probe in the head's place: a kept one, or a folder with train/ and validation/"),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="names with commas between; settings as MultiBounce(steps=3); some if not given")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="names with commas between; all that the data allow if not given")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="the method to compare with; Rollout if not given")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="examples a forward, or auto; 32 if not given, 1 of prompts that differ in length")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="examples at most; for testing only, and marked so")] = None,
    seed: Annotated[int | None, typer.Option(help="of whatever is random; 0 if not given")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; cuda where there is one if not given")] = None,
    sanity: Annotated[int | None, typer.Option(help="examples for sanity checks of the methods; none if not given")] = None,
) -> None:
    """Measures, and writes the table and the reports. Processes of torchrun or `accelerate launch` share the work."""
    given = {name: value for name, value in locals().items() if name not in ("output", "config") and value is not None}
    settings = DEFAULTS | (_read(config) if config else {}) | given

    from attnchain_evals.bench.experiment import carry_out
    from attnchain_evals.bench.runner import Share
    from attnchain_evals.report.report import write_report

    result = carry_out(settings, output)
    if not Share.from_environment().rank:
        typer.echo("\n".join(map(str, write_report(result, output))))


@app.command()
def ls(what: Annotated[str, typer.Argument(help="methods, metrics or data")]) -> None:
    """Lists the names that `bench run` knows."""
    from attnchain_evals.bench import names
    from attnchain_evals.bench.data_names import DATA
    from attnchain_evals.terminal import did_you_mean
    from attnchain_interp import AttentionError

    lists = {
        "methods": lambda: names.method_names(),
        "metrics": lambda: names.metric_names(),
        "data": lambda: [f"{name:<27} {text}" for name, text in DATA.items()],
    }
    if what not in lists:
        raise AttentionError(f"there is no list of {what!r}.{did_you_mean(what, lists)}", f"Use {', '.join(lists)}.")
    typer.echo("\n".join(lists[what]()))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="folder of a run, finished or not")],
    baseline: Annotated[str | None, typer.Option(help="the method to compare with (that of the run)")] = None,
) -> None:
    """Writes report.md, report.json and report.html from the table alone, and prints the first."""
    from attnchain_evals.bench.experiment import read_result
    from attnchain_evals.report.report import write_report

    paths = write_report(read_result(folder, baseline), folder)
    typer.echo(paths[0].read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    from attnchain_interp import AttentionError

    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise AttentionError(
            f"{path} is not a readable .toml or .json file ({error}).", "Correct the file or its path."
        ) from error
    unknown = [name for name in found if name not in DEFAULTS]
    if unknown:
        raise AttentionError(f"{path} has the unknown options {', '.join(unknown)}.", f"Use {', '.join(DEFAULTS)}.")
    return found
