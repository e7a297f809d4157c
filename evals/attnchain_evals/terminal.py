"""Lines that a command prints beside its result: its progress, and names that were perhaps meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches

USAGE = "wrong usage"


@contextmanager
def as_usage() -> Iterator[None]:
    """Marks an error in the block as wrong usage. The command then ends with status 2, not with 1."""
    try:
        yield
    except ValueError as error:
        error.add_note(USAGE)
        raise


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
