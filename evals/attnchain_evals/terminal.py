"""Lines that a command prints beside its result: its progress, and names that were perhaps meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")

USAGE = "wrong usage"


@contextmanager
def as_usage() -> Iterator[None]:
    """Marks an error in the block as wrong usage. The command then ends with status 2, not with 1."""
    try:
        yield
    except ValueError as error:
        error.add_note(USAGE)
        raise


def announce(text: str) -> None:
    """Says beside the result what a command will do, and where its results will be."""
    import typer

    typer.echo(text.encode(errors="backslashreplace").decode(), err=True)  # a name may hold a lone surrogate


def progress(of: Sequence[T], text: str) -> Iterable[T]:
    """Goes through steps of a work. Shows a bar with the time left on a terminal, and writes nothing into a file or pipe."""
    from tqdm import tqdm

    return tqdm(of, text, disable=None, leave=False)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows a line on a terminal while the block runs. Writes nothing into a file or pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else nullcontext():
        yield


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'Rollout'?", or nothing where no known name is near.

    >>> did_you_mean("rolout", ["Rollout", "TokenRank"])
    " Did you mean 'Rollout'?"
    >>> did_you_mean("x", ["Rollout"])
    ''
    """
    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_folded[each]) for each in near)}?" if near else ""
