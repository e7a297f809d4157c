"""`attnchain demo --diffusion`."""

from __future__ import annotations

from pathlib import Path

import typer


def demo_diffusion(out: Path, images: int, seed: int) -> None:
    """The bundled diffusion model: samples by guidance, segmentation without words, pictures."""
    from attnchain_evals.cli.diffusion_demo import run

    demo = run(out, images, seed, say=typer.echo)
    typer.echo(f"\n{demo.tables}")
    for file in demo.files:
        typer.echo(file)
