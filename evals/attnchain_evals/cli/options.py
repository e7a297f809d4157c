"""Options that would have no effect are refused: no command passes one over in silence."""

from __future__ import annotations

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
