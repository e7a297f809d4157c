"""`attnchain explore`: the explorer page of a model and one input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attnchain_evals.bench.model_loading import Model, check_model, check_text, load
from attnchain_evals.cli.options import check_effect, check_input
from attnchain_evals.cli.outputs import PAGES, check_file, made
from attnchain_evals.terminal import announce, as_usage


def explore(
    context: typer.Context,
    model: Model,
    source: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="an image file, or a text for a model of text; bundled has its own")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the page")] = Path("explorer.html"),
    methods: Annotated[
        str | None, typer.Option(help="to see side by side: names with commas between; settings as MultiBounce(steps=3)")
    ] = None,
    target: Annotated[
        int | None,
        typer.Option(min=0, help="the explained class, or token of a decoder, by number; the predicted one if not given"),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=0, help="how many tokens a decoder writes after the text, at most; the page explains them")
    ] = 8,
    max_mb: Annotated[float, typer.Option(min=0.1, help="size of the page, in 10⁶ bytes")] = 3.0,
) -> None:
    """Writes one HTML page without a server: point at a patch or a token and watch its attention bounce."""
    from attnchain_evals.bench.names import check_methods, split
    from attnchain_evals.bench.needs import check_fits, given_by, given_by_name
    from attnchain_evals.bench.photograph import photograph
    from attnchain_evals.report.explorer_pages import IMAGE_METHODS, explore_image, explore_text
    from attnchain_interp import AttentionError

    with as_usage():
        check_model(model)
        check_methods(split(methods) if methods else ())
        check_fits(model, given_by_name(model), split(methods) if methods else ())
        check_file(output, PAGES)
        check_input(context, source, of_texts=("max_new_tokens",))
    announce(f"A page of {model} in which attention follows the pointer: {output}, at most {max_mb:g} MB")
    loaded = load(model)
    given = given_by(loaded)
    check_fits(model, given, split(methods) if methods else ())
    if "logits" not in given:
        check_effect(context, ("target",), f"on {model}, which has no classes")
    if not getattr(loaded.model, "can_generate", lambda: False)():
        check_effect(context, ("max_new_tokens",), f"on {model}, which writes no text")
    tokenizer = loaded.reading.tokenizer
    if loaded.preprocess is None and tokenizer is None:
        raise AttentionError(
            f"{model} takes no images and has no tokenizer for a text.", "Call ac.explore(store) on a captured store."
        )
    if source is None and model != "bundled":
        raise AttentionError(f"{model} needs an INPUT.", "Write an image file, or a text in quotes for a model of text.")
    options: dict[str, Any] = {"target": target, "max_mb": max_mb}
    if loaded.preprocess is not None:
        chosen = split(methods) if methods else IMAGE_METHODS
        photo = photograph(loaded, source)
        part = "" if photo.read.shape == photo.shown.shape else ", the part that the model reads"
        title = f"{model} · {'test image' if source is None else Path(source).name}{part}"
        page = explore_image(loaded.model, photo.pixels, chosen, title=title, shown=photo.read, **options)
    else:
        check_text(model, [str(source)])
        chosen = split(methods) if methods else None
        inputs = tokenizer(source, return_tensors="pt")
        if not inputs["input_ids"].numel():
            raise AttentionError("the text has no tokens.", "Write a text in quotes, such as 'a film to forget'.")
        page = explore_text(loaded.model, inputs, tokenizer, chosen, title=model, outputs=max_new_tokens, **options)
    made(output.parent)
    typer.echo(page.write(output))
