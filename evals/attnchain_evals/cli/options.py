"""Options that would have no effect are refused: no command passes one over in silence."""

from __future__ import annotations

import os
from collections.abc import Iterable

import typer


def check_effect(context: typer.Context, options: Iterable[str], where: str, instead: str = "") -> None:
    """Refuses the options that were given, of these that have no effect there.

    Args:
        context: of the command.
        options: names of the command's arguments.
        where: "with --real".
        instead: another remedy than to leave the options out: "add --real".
    """
    from attnchain_interp import AttentionError

    sources = {name: context.get_parameter_source(name) for name in options}
    given = [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        have, them = ("has", "it") if len(given) == 1 else ("have", "them")
        raise AttentionError(
            f"{' and '.join(given)} {have} no effect {where}.", f"Leave {them} out{f', or {instead}' if instead else ''}."
        )


def names_file(source: str) -> bool:
    """Returns whether an input is the name of a file, or of a pipe; a text is none."""
    return os.path.exists(source) and not os.path.isdir(source)


def check_input(
    context: typer.Context, source: str | None, of_images: Iterable[str] = (), of_texts: Iterable[str] = ()
) -> None:
    """Refuses options of images on a text, and options of texts on the file of an image, or on the bundled one: None."""
    if source is None or names_file(source):
        check_effect(context, of_texts, f"on {source or 'a test image'}, which is no text")
    else:
        check_effect(context, of_images, f"on a text, and {source[:60]!r} is no file")
