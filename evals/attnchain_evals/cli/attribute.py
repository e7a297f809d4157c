"""`attnchain attribute`: the scores of an image's patches, or of a text's tokens."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from attnchain_evals.bench.model_loading import MapsName, Model, check_model, check_text, load
from attnchain_evals.cli.options import check_effect, check_input, names_file
from attnchain_evals.cli.outputs import PAGES, PICTURES, check_place, is_file, made
from attnchain_evals.terminal import announce, as_usage, working

if TYPE_CHECKING:
    from torch import Tensor

    from attnchain_interp.capture import LoadedModel

Dpi = Annotated[int, typer.Option(min=20, max=2000, help="pixels per inch of a PNG, and of images inside a PDF or SVG")]
KeepSinks = Annotated[
    bool, typer.Option("--keep-sinks", help="let attention sinks count in the scale of colours; they are left out else")
]


def attribute(
    context: typer.Context,
    model: Model,
    source: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="image files, side by side; or a text for a model of text")
    ],
    method: Annotated[
        str, typer.Option(help="as `attnchain bench ls methods` has it; settings as MultiBounce(steps=3)")
    ] = "TokenRank",
    target: Annotated[
        str | None,
        typer.Option(help="the class by number (the predicted one if not given), or the text after a prompt (generated)"),
    ] = None,
    maps: Annotated[MapsName | None, typer.Option(help="that the method reads; the method's default if not given")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="the picture (.png, .pdf, .svg; .html of a text), or a folder for it")
    ] = Path("."),
    dpi: Dpi = 150,
    smooth: Annotated[bool, typer.Option("--smooth", help="of images: blend the colours of neighbouring patches")] = False,
    keep_sinks: KeepSinks = False,
    features: Annotated[
        Literal["word", "sentence", "passage"] | None,
        typer.Option(help="of a text: the parts that are shaded and ranked; without it, words are ranked"),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="of a text without --target: how many tokens the model writes, at most")
    ] = 25,
) -> None:
    """Writes the heat map of images, or a text with its words shaded, and the scores as JSON."""
    from attnchain_evals.bench.names import check_methods, with_settings
    from attnchain_evals.bench.needs import check_fits, given_by, given_by_name, needs_of
    from attnchain_interp import AttentionError
    from attnchain_interp.files import write_text

    with as_usage():
        method = with_settings(method, maps=maps) if maps else method
        check_model(model)
        check_methods([method])
        check_fits(model, given_by_name(model), [method])
        check_input(context, source[0], ("smooth", "keep_sinks"), ("features", "max_new_tokens"))
        if target is not None:
            check_effect(context, ("max_new_tokens",), "with --target")
        kinds = PICTURES if names_file(source[0]) else (*PAGES, *PICTURES)
        check_place(output, kinds, source)
        if (output.suffix if is_file(output) else kinds[0]) in PAGES:
            check_effect(context, ("dpi",), "on a page", "write --output NAME.png")
    more = f" and {len(source) - 1} more" if len(source) > 1 else ""
    announce(
        f"{method} of {source[0][:60]}{more} by {model}: a picture and the scores, in {output}{'' if is_file(output) else '/'}"
    )
    loaded = load(model)
    check_fits(model, given_by(loaded), [method])
    of_image = loaded.preprocess is not None
    if not of_image and loaded.reading.tokenizer is None:
        raise AttentionError(
            f"{model} takes no images and has no tokenizer for a text.", "See its tokens with `attnchain inspect`."
        )
    if not of_image:
        check_text(model, source)
    of_class = of_image or not getattr(loaded.model, "can_generate", lambda: False)()
    if of_class:
        check_effect(context, ("max_new_tokens",), f"on {model}, which writes no text")
    if of_class and target is not None and not needs_of(method):
        announce(f"{method} reads attention alone: it gives the same for every class.")
    picture = _picture(output, source, method, kinds[0])
    if of_image:
        found = _image(loaded, model, source, method, target, picture, dpi, smooth, keep_sinks)
    else:
        found = _text(loaded, model, source[0], method, target, picture, dpi, features, max_new_tokens)
    scores = picture.with_suffix(".json")
    write_text(scores, json.dumps({"model": model, "method": method, "target": target} | found.scores))
    typer.echo("\n".join([str(picture), str(scores), *found.lines]))


class _Found(NamedTuple):
    """The scores that are written, and lines that are printed."""

    scores: dict[str, Any]
    lines: list[str]


def _picture(output: Path, source: list[str], method: str, ending: str) -> Path:
    """Returns the file of the picture: `output` itself, or one in this folder that is named after input and method."""
    if is_file(output):
        made(output.parent)
        return output
    made(output)
    name = source[0][:40] if ending in PAGES else Path(source[0]).stem
    more = [f"and-{len(source) - 1}-more"] if len(source) > 1 else []
    stem = "-".join(re.sub(r"[^0-9A-Za-z_]+", "-", part).strip("-") or "text" for part in (name, *more, method))
    return output / f"{stem}{ending}"


def _image(
    loaded: LoadedModel,
    model: str,
    sources: list[str],
    method: str,
    target: str | None,
    picture: Path,
    dpi: int,
    smooth: bool,
    keep_sinks: bool,
) -> _Found:
    import torch

    from attnchain_evals.bench.names import build_methods
    from attnchain_evals.bench.photograph import photograph
    from attnchain_evals.bench.shared_capture import SharedCapture
    from attnchain_interp import AttentionError
    from attnchain_interp.attribution import described, settings_of
    from attnchain_interp.pictures import show_attribution, write_figure
    from attnchain_interp.store import known_sinks

    photographs = [photograph(loaded, source) for source in sources]
    classes = None if target is None else torch.tensor([_class(target)] * len(sources))
    shapes = {tuple(each.pixels.shape) for each in photographs}
    if len(shapes) > 1:
        raise AttentionError(
            f"{model} reads these images in different sizes: {sorted(shapes)}.", "Give images of one size, or one at a time."
        )
    shared = SharedCapture(loaded.model, torch.cat([each.pixels for each in photographs]), target=classes)
    with working("capturing attention"):
        layout = shared.store.tokens
    if layout.grid is None:
        raise AttentionError(f"{model} has no image grid, so it has no heat map.", "See its tokens with `attnchain inspect`.")
    built = build_methods([method], loaded.model, layout.grid)[method]
    with working(method):
        grids = shared.scores(built)
    store = shared.maps(getattr(built, "captured_maps", "attention"))
    layers = settings_of(built, store).layers if hasattr(built, "layer_weights") else "all"
    figure = show_attribution(
        grids,
        [each.shown for each in photographs],
        titles=[Path(source).name for source in sources],
        sinks=known_sinks(store, layers),
        share=False,
        keep_sinks=keep_sinks,
        smooth=smooth,
        read=[each.covered(shared.store) for each in photographs],
        title=f"{model}\n{described(built, store)}",
    )
    write_figure(figure, picture, dpi)
    one = {"image": sources[0], "grid": grids[0].tolist()}
    return _Found(one if len(sources) == 1 else {"images": sources, "grids": grids.tolist()}, [])


def _text(
    loaded: LoadedModel,
    model: str,
    source: str,
    method: str,
    target: str | None,
    picture: Path,
    dpi: int,
    features: Any,
    max_new_tokens: int,
) -> _Found:
    from attnchain_evals.bench.names import method_of
    from attnchain_interp import TextAttribution
    from attnchain_interp.pictures import show_text, write_figure

    generates = getattr(loaded.model, "can_generate", lambda: False)()
    built = method_of(method)(loaded.model)
    logits = _classes(loaded, source) if built.explains_target and not generates else None
    meant: Any = target if generates else _chosen(target, logits)
    gen_args, bar = {"max_new_tokens": max_new_tokens}, sys.stderr.isatty()
    attribution = TextAttribution(built, loaded.reading.tokenizer)
    found = attribution.attribute(source, target=meant, gen_args=gen_args, show_progress=bar)
    rows: Any = found.token_attr
    title = f"{built!r} · {model}"
    shown = found if features is None else found.grouped(features)
    if picture.suffix == ".html":
        shown.write_html(picture, title)
    else:
        write_figure(show_text(shown, title=title), picture, dpi)
    scores = {"text": source, "input_tokens": found.input_tokens, "output_tokens": found.output_tokens}
    if meant is None and generates:
        announce(f"The model goes on: {''.join(found.output_spelling.pieces)!r}")
    ranked = found.by_word() if features is None else shown
    best = ranked.top()
    if len(ranked.input_tokens) > len(best):
        announce(f"The {len(best)} greatest of {len(ranked.input_tokens)}:")
    lines = [f"{share:6.1%}  {part}" for part, share in best]
    return _Found(scores | {"scores": rows.tolist(), "policy": found.policy}, lines)


def _classes(loaded: LoadedModel, text: str) -> Tensor | None:
    """Returns the logits (class,) that a classifier gives a text; None for a model whose logits are not (batch, classes)."""
    import torch

    from attnchain_interp.attribution import prompt_of
    from attnchain_interp.gradients import logits_of

    ids = prompt_of(text, loaded.reading.tokenizer).ids.to(next(loaded.model.parameters()).device)
    with torch.no_grad():
        logits = logits_of(loaded.model(ids))
    return logits[0] if logits.ndim == 2 and logits.shape[1] > 1 else None


def _chosen(target: str | None, logits: Tensor | None) -> int | None:
    """Returns the class of a target, or the predicted one; None where neither is known."""
    from attnchain_evals.bench.shared_capture import check_classes

    if target is None:
        return None if logits is None else int(logits.argmax())
    number = _class(target)
    if logits is not None:
        check_classes([number], len(logits))
    return number


def _class(target: str) -> int:
    from attnchain_interp import AttentionError

    if not target.isdecimal():
        raise AttentionError(f"--target is {target!r}; it is the number of a class.", "Write a whole number from 0 on.")
    return int(target)
