"""`attnchain attribute`: the scores of an image's patches, or of a text's tokens."""

from __future__ import annotations

import json
import re
import sys
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnchain_evals.bench.model_loading import MapsName, Model, check_model, load, normalization_of, read_image
from attnchain_evals.terminal import announce, as_usage, working

if TYPE_CHECKING:
    from attnchain_interp.capture import LoadedModel


def attribute(
    model: Model,
    source: Annotated[str, typer.Argument(metavar="INPUT", help="an image file, or a text for a model of text")],
    method: Annotated[
        str, typer.Option(help="as `attnchain bench ls methods` has it; settings as MultiBounce(steps=3)")
    ] = "TokenRank",
    target: Annotated[
        str | None,
        typer.Option(help="the class by number (the predicted one if not given), or the text after a prompt (generated)"),
    ] = None,
    maps: Annotated[
        MapsName | None,
        typer.Option(help="that the method reads; the method's default if not given"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the picture and the scores")] = Path("."),
) -> None:
    """Writes the heat map of an image, or a text with its tokens shaded, and the scores as JSON."""
    from attnchain_evals.bench.names import check_methods, with_settings
    from attnchain_evals.bench.needs import check_fits, given_by, given_by_name
    from attnchain_interp import AttentionError
    from attnchain_interp.files import write_text

    with as_usage():
        method = with_settings(method, maps=maps) if maps else method
        check_model(model)
        check_methods([method])
        check_fits(model, given_by_name(model), [method])
    announce(f"{method} of {source[:60]} by {model}: a picture and the scores, in {out}/")
    loaded = load(model)
    check_fits(model, given_by(loaded), [method])
    if loaded.preprocess is None and loaded.reading.tokenizer is None:
        raise AttentionError(
            f"{model} takes no images and has no tokenizer for a text.", "See its tokens with `attnchain inspect`."
        )
    if loaded.preprocess is None and isfile(source):
        raise AttentionError(f"{model} takes no images, and {source} is a file.", "Write a text in quotes.")
    out.mkdir(parents=True, exist_ok=True)
    of_image = loaded.preprocess is not None
    name = Path(source).stem if of_image else source[:40]
    stem = out / "-".join(re.sub(r"[^0-9A-Za-z_]+", "-", part).strip("-") or "text" for part in (name, method))
    picture, found = (_image if of_image else _text)(loaded, model, source, method, target, stem)
    write_text(scores := Path(f"{stem}.json"), json.dumps({"model": model, "method": method, "target": target} | found))
    typer.echo(f"{picture}\n{scores}")


def _image(
    loaded: LoadedModel, model: str, source: str, method: str, target: str | None, stem: Path
) -> tuple[Path, dict[str, Any]]:
    import torch

    from attnchain_evals.bench.names import build_methods
    from attnchain_evals.bench.shared_capture import SharedCapture
    from attnchain_interp import AttentionError
    from attnchain_interp.pictures import show_attribution, write_figure

    pixels = read_image(loaded, source)
    shared = SharedCapture(loaded.model, pixels, target=None if target is None else torch.tensor([_class(target)]))
    with working("capturing attention"):
        layout = shared.store.tokens
    if layout.grid is None:
        raise AttentionError(f"{model} has no image grid, so it has no heat map.", "See its tokens with `attnchain inspect`.")
    with working(method):
        grid = shared.scores(build_methods([method], loaded.model, layout.grid)[method])
    figure = show_attribution(grid, pixels, normalization_of(loaded.preprocess), [method])
    return write_figure(figure, Path(f"{stem}.png")), {"image": source, "grid": grid[0].tolist()}


def _text(
    loaded: LoadedModel, model: str, source: str, method: str, target: str | None, stem: Path
) -> tuple[Path, dict[str, Any]]:
    from attnchain_evals.bench.names import method_of
    from attnchain_interp import TextAttribution

    generates = getattr(loaded.model, "can_generate", lambda: False)()
    meant = target if target is None or generates else _class(target)
    attribution = TextAttribution(method_of(method)(loaded.model), loaded.reading.tokenizer)
    found = attribution.attribute(source, target=meant, show_progress=sys.stderr.isatty())
    rows: Any = found.token_attr
    page = found.write_html(Path(f"{stem}.html"))
    scores = {"text": source, "input_tokens": found.input_tokens, "output_tokens": found.output_tokens}
    return page, scores | {"scores": rows.tolist(), "policy": found.policy}


def _class(target: str) -> int:
    from attnchain_interp import AttentionError

    if not target.isdecimal():
        raise AttentionError(f"--target is {target!r}; it is the number of a class.", "Write a whole number from 0 on.")
    return int(target)
