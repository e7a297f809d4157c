"""The command `attnchain`: demo, attribute, inspect, bench."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
except ImportError as error:
    raise SystemExit(f"{error}. The command line needs: pip install 'attnchain-interp[evals]'") from error

if TYPE_CHECKING:
    from attnchain_interp import Loaded

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)

from attnchain_evals.bench.command import app as bench  # noqa: E402 - needs typer, whose absence is explained above

app.add_typer(bench, name="bench")

Model = Annotated[str, typer.Argument(help="bundled, timm:NAME, hf:NAME (a hub name or a local folder) or torchvision:NAME")]
FRAMEWORKS = {"timm": "timm", "hf": "transformers", "torchvision": "torch"}


DEMO = (
    *("TokenRank", "MultiBounce", "Rollout", "WeightedPageRank", "ColumnSum"),
    *("class row", "class column", "centre row", "centre column", "RandomRanking", "input magnitude"),
)


def demo_methods() -> dict[str, Any]:
    """What the demo scores: methods that read attention alone and take less than a second an image, and the controls."""
    from attnchain_evals.bench.catalogue import build_methods

    return build_methods(DEMO, None, (14, 14))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the table and the pictures")] = Path("attnchain-demo"),
    images: Annotated[int, typer.Option(help="test images to score")] = 64,
    seed: Annotated[int, typer.Option(help="of the test images")] = 0,
    diffusion: Annotated[bool, typer.Option("--diffusion", help="the bundled diffusion model: guidance, segments")] = False,
) -> None:
    """The bundled model on its test images: every method, deletion and insertion, localisation, pictures."""
    if diffusion:
        from attnchain_evals.diffusion.command import demo_diffusion

        demo_diffusion(out, images, seed)
        return
    from attnchain_evals.demo import run

    found = run(demo_methods(), out, images, seed)
    typer.echo(f"\n{images} test images of ClutteredDigits, accuracy {found.accuracy:.3f}; mean [95 % bootstrap interval]")
    typer.echo(f"\n{found.benchmark.markdown()}\n")
    for file in found.files:
        typer.echo(file)


@app.command()
def attribute(
    model: Model,
    image: Annotated[Path, typer.Argument(help="an image file")],
    method: Annotated[
        str, typer.Option(help="as `attnchain bench ls methods` has it; settings as MultiBounce(steps=3)")
    ] = "TokenRank",
    target: Annotated[
        int | None, typer.Option(help="the class, of class-specific methods; the predicted one if not given")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the picture and the scores")] = Path("."),
) -> None:
    """The heat map of an image: a picture, and the scores as JSON."""
    import torch

    from attnchain_evals.bench.catalogue import build_methods
    from attnchain_evals.bench.reading import Reading
    from attnchain_evals.figures import attribution_figure, write_figure
    from attnchain_evals.files import write_text
    from attnchain_interp import AttentionError

    loaded = load(model)
    if loaded.preprocess is None:
        raise AttentionError(f"{model} takes no images, so it has no heat map of one; `attnchain inspect` shows what it has.")
    pixels = loaded.preprocess(open_image(image))
    reading = Reading(loaded.model, pixels, target=None if target is None else torch.tensor([target]))
    layout = reading.store.tokens
    if layout.grid is None:
        raise AttentionError(f"{model} has no image grid, so it has no heat map; `attnchain inspect` shows what it has.")
    grid = reading.grid(build_methods([method], loaded.model, layout.grid)[method])
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{image.stem}-{re.sub(r'[^0-9A-Za-z]+', '-', method).strip('-')}"
    picture = write_figure(attribution_figure(pixels, None, {method: grid}), out / f"{stem}.png")
    found = {"model": model, "image": str(image), "method": method, "target": target, "grid": grid[0].tolist()}
    write_text(out / f"{stem}.json", json.dumps(found))
    typer.echo(f"{picture}\n{out / f'{stem}.json'}")


@app.command()
def inspect(
    model: Model,
    strong: Annotated[bool, typer.Option("--strong", help="also overwrite each layer's map: the output must move")] = False,
    kind: Annotated[str | None, typer.Option(help="encoder, decoder, cross or pool")] = None,
    tower: Annotated[str | None, typer.Option(help="of a model of several: text, vision, …")] = None,
) -> None:
    """What is captured of a model (on a sample input): layers, heads, tokens, route, row sums; and the strong check of it."""
    from attnchain_interp import AttentionError, Role, capture, prove

    loaded = load(model)
    options: dict[str, Any] = {name: value for name, value in (("kind", kind), ("tower", tower)) if value is not None}
    store = capture(loaded.model, **loaded.sample, **options)
    codes = store.tokens.roles[0].tolist()
    roles = ", ".join(f"{codes.count(role)} {role.name.lower()}" for role in Role if role in codes)
    typer.echo(
        f"{model}: {store.metadata['model']} by the {store.metadata['adapter']} adapter, route {store.metadata['route']}"
    )
    typer.echo(f"tokens: {len(codes)} ({roles}); grid {store.tokens.grid}")
    for layer in store:
        sums = layer.maps.double().sum(-1)
        typer.echo(
            f"{layer.name:<40} {layer.heads:>3} heads  {layer.maps.shape[-1]:>5} tokens"
            f"  row sums {float(sums.min()):.6f} … {float(sums.max()):.6f}"
        )
    if strong:
        proof = prove(loaded.model, **loaded.sample, **options)
        typer.echo(
            f"with the captured maps in the model's place its output deviates by {proof.deviation:.1e} of its greatest entry"
        )
        for layer in proof.layers:
            typer.echo(f"{layer.name:<40} overwritten, the output moves by {layer.moved:.1e}")
        if not proof.holds:
            raise AttentionError(
                "these are not the maps that the model uses, or a layer does not count; please report the model."
            )
        typer.echo("the strong check holds")


def load(name: str) -> Loaded:
    """The model of a command-line name.

    Raises:
        AttentionError: the name has no known prefix, or the framework cannot find or load it.
    """
    from attnchain_interp import AttentionError, Loaded, adapter_named

    if name == "bundled":
        from attnchain_evals.bundled import bundled_vit, preprocess

        return Loaded(bundled_vit(), preprocess, {"x": preprocess(grey_noise())})
    prefix, _, rest = name.partition(":")
    if prefix not in FRAMEWORKS or not rest:
        raise AttentionError(f"model {name!r} is unknown; write bundled, timm:NAME, hf:NAME or torchvision:NAME.")
    adapter = adapter_named(FRAMEWORKS[prefix])
    try:
        return adapter.load(rest)
    except (OSError, RuntimeError, ValueError) as error:
        raise AttentionError(f"{FRAMEWORKS[prefix]} could not load {rest!r}: {error}") from error


def grey_noise() -> Any:
    """An image to try a model with."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


def open_image(path: Path) -> Any:
    """The image of a file.

    Raises:
        AttentionError: there is no such file, or it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    from attnchain_interp import AttentionError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise AttentionError(f"there is no file {path}.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise AttentionError(f"{path} is not a readable image ({error}); pass a PNG, a JPEG or the like.") from error


def main() -> None:
    """Runs the command line; what we refuse ends as one line, everything else as the traceback it is."""
    try:
        app()
    except (ImportError, ValueError) as error:
        from attnchain_interp import AttentionError

        if not isinstance(error, AttentionError | ImportError):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
