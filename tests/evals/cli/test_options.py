from __future__ import annotations

import typer
from typer.testing import CliRunner

from attnchain_evals.cli.options import check_effect
from attnchain_interp import AttentionError

app = typer.Typer()


@app.command()
def command(context: typer.Context, keep_sinks: bool = False, dpi: int = 150) -> None:
    check_effect(context, ("keep_sinks", "dpi"), "on a text", "give an image")


def error(*words: str) -> str:
    found = CliRunner().invoke(app, words).exception
    assert found is None or isinstance(found, AttentionError)
    return str(found)


def test_options_that_are_given_have_an_effect() -> None:
    assert error() == "None"
    assert error("--dpi", "150") == "--dpi has no effect on a text.\nLeave it out, or give an image.", "even at its default"
    both = "--keep-sinks and --dpi have no effect on a text.\nLeave them out, or give an image."
    assert error("--dpi", "90", "--keep-sinks") == both
