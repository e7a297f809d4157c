"""`attnchain inspect`: the capture of a model on a sample input, or a file that holds a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from attnchain_evals.bench.model_loading import ANY_MODEL, MapsName, load
from attnchain_evals.cli.options import check_effect
from attnchain_evals.terminal import announce, as_usage, working

if TYPE_CHECKING:
    from attnchain_interp import AttentionStore


def inspect(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{ANY_MODEL}; or the file of a store")],
    strong: Annotated[bool, typer.Option("--strong", help="also overwrite each layer's map: the output must move")] = False,
    kind: Annotated[
        Literal["encoder", "decoder", "cross", "pool", "self", "joint"] | None, typer.Option(help="of the attention")
    ] = None,
    tower: Annotated[str | None, typer.Option(help="of a model of several: text, vision, …")] = None,
    maps: Annotated[MapsName, typer.Option(help="attention, or contributions of tokens")] = "attention",
) -> None:
    """Prints the capture of a model on a sample input: layers, heads, tokens, route, row sums. --strong verifies it.

    In place of a model it takes the file of a store, whose tensors it compares with their checksum.
    """
    if Path(model).is_file():
        with as_usage():
            check_effect(context, ("strong", "kind", "tower", "maps"), f"on {model}, which is a file")
        _file(Path(model))
        return
    from attnchain_interp import capture

    announce(f"The capture of {model} on a sample input{', and each layer overwritten' if strong else ''}; nothing is written")
    loaded = load(model)
    reading = replace(loaded.reading, kind=kind, tower=tower)
    with working("capturing attention"):
        store = capture(loaded.model, reading=reading, maps=maps, **loaded.sample)
    typer.echo(
        f"{model}: {store.metadata['model']} by the {store.metadata['adapter']} adapter, route {store.metadata['route']}"
    )
    _layers(store)
    if strong:
        _prove(loaded, reading)


def _file(path: Path) -> None:
    from attnchain_interp import AttentionStore

    store = AttentionStore.read(path, verify=True)
    typer.echo(f"{path}: {store!r}")
    typer.echo("The tensors have the checksum of the file.")
    _layers(store)


def _layers(store: AttentionStore) -> None:
    typer.echo(store.tokens.described)
    for layer in store:
        sums = layer.maps.double().sum(-1)
        typer.echo(
            f"{layer.name:<40} {layer.heads:>3} heads  {layer.maps.shape[-1]:>5} tokens"
            f"  row sums {float(sums.min()):.6f} … {float(sums.max()):.6f}"
        )


def _prove(loaded: Any, reading: Any) -> None:
    from attnchain_interp import AttentionError, prove

    model = loaded.model.float()  # the rounding of 16 bits hides whether the maps are the model's
    sample = {name: given.float() if given.is_floating_point() else given for name, given in loaded.sample.items()}
    with working("overwriting one layer after the other"):
        proof = prove(model, reading=reading, **sample)
    typer.echo(
        f"in float32, with the captured maps in the model's place, its output deviates by {proof.deviation:.1e} of its"
        " greatest entry"
    )
    for layer in proof.layers:
        typer.echo(f"{layer.name:<40} overwritten, the output moves by {layer.moved:.1e}")
    if not proof.holds:
        raise AttentionError(
            "these are not the maps that the model uses, or a layer does not count.", "Please report the model."
        )
    typer.echo("the strong check holds")
