"""The command `attnchain`: demo, fetch, attribute, segment, explore, figure, inspect, bench, reproduce."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

try:
    import typer
except ImportError as error:
    raise SystemExit(f"{error}. The command line needs: pip install 'attnchain-interp[evals]'") from error

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)

from attnchain_evals.cli.attribute import attribute  # noqa: E402 - needs typer, whose absence is explained above
from attnchain_evals.cli.bench import app as bench  # noqa: E402
from attnchain_evals.cli.demo import demo  # noqa: E402
from attnchain_evals.cli.explore import explore  # noqa: E402
from attnchain_evals.cli.fetch import fetch  # noqa: E402
from attnchain_evals.cli.figure import app as figure  # noqa: E402
from attnchain_evals.cli.inspect import inspect  # noqa: E402
from attnchain_evals.cli.reproduce import app as reproduce  # noqa: E402
from attnchain_evals.cli.segment import segment  # noqa: E402
from attnchain_evals.terminal import USAGE, announce  # noqa: E402

UNFORESEEN = "this was not foreseen"
app.command()(attribute)
app.command()(demo)
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


def main() -> None:
    """Runs the command line. Prints an error as its cause and its fix, and ends with 2 for wrong usage, with 1 for the rest.

    Nobody reads a traceback by accident: `ATTNCHAIN_TRACEBACK=1` asks for it. A warning is printed without its place.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            app()
    except Exception as error:
        if os.environ.get("ATTNCHAIN_TRACEBACK"):
            raise
        typer.echo(f"error: {_said(error)}", err=True)
        sys.exit(2 if USAGE in getattr(error, "__notes__", ()) else 1)


def _warn(message: Warning | str, *_place: Any, **_more: Any) -> None:
    announce(f"warning: {message}")


def _said(error: Exception) -> str:
    from attnchain_interp import AttentionError

    text = str(error) if isinstance(error, AttentionError) else " ".join(str(error).split())
    if isinstance(error, AttentionError | ImportError | OSError):
        return text
    return f"{UNFORESEEN}: {type(error).__name__}: {text}\nPlease report it, with what ATTNCHAIN_TRACEBACK=1 prints."


if __name__ == "__main__":
    main()
