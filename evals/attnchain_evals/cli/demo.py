"""`attnchain demo`: the bundled model of images, that of diffusion, or real models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnchain_evals.cli.options import check_effect
from attnchain_evals.cli.outputs import check_folder
from attnchain_evals.terminal import as_usage

OF_REAL, OF_BUNDLED = ("photos", "weights", "fetch"), ("images", "seed")


def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")] = Path("attnchain-demo"),
    images: Annotated[
        int, typer.Option(min=2, help="without --real and --diffusion: test images to score; an interval needs two")
    ] = 64,
    seed: Annotated[int, typer.Option(min=0, help="without --real: of the test images")] = 0,
    diffusion: Annotated[bool, typer.Option("--diffusion", help="the bundled diffusion model: guidance, a walk")] = False,
    real: Annotated[bool, typer.Option("--real", help="real models: objects of photographs, sources of an answer")] = False,
    photos: Annotated[Path | None, typer.Option(help="with --real: a folder of photographs; three if not given")] = None,
    weights: Annotated[Path | None, typer.Option(help="with --real: the folder of `attnchain fetch`")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="with --real: fetch the models that are not there")] = False,
) -> None:
    """Scores methods that read attention alone, with the bundled vision transformer on its test images, and draws pictures.

    --diffusion and --real are two other demos.
    """
    from attnchain_interp import AttentionError

    with as_usage():
        check_folder(output)
        if real and diffusion:
            raise AttentionError("--real and --diffusion are two demos.", "Leave one of them out.")
        if real:
            check_effect(context, OF_BUNDLED, "with --real")
        else:
            check_effect(context, OF_REAL, "without --real", "add --real")
        if diffusion:
            check_effect(context, ("images",), "with --diffusion")
        if photos is not None:
            from attnchain_evals.tasks.image_folder import images_in

            images_in(photos)
    if real:
        from attnchain_evals.cli.real_demo import demo_real

        demo_real(output, photos, weights, fetch)
    elif diffusion:
        from attnchain_evals.cli.diffusion_demo import demo_diffusion

        demo_diffusion(output, seed)
    else:
        from attnchain_evals.cli.digits_demo import demo_digits

        demo_digits(output, images, seed)
