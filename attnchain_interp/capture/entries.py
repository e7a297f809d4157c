"""The known models among the modules of a source, and the methods by which they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from torch import nn

from attnchain_interp.capture.adapter import Adapter, entries_of
from attnchain_interp.capture.threads import method_of, replaced_methods
from attnchain_interp.errors import AttentionError

Result = TypeVar("Result")


class Known(NamedTuple):
    """A model of a known family among the modules of a source.

    Attributes:
        path: its name among them; empty for the source itself.
        module, adapter: the model, and the adapter that knows it.
        entries: the names of the methods that run it.
    """

    path: str
    module: nn.Module
    adapter: Adapter
    entries: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path or 'itself'} ({type(self.module).__name__})"


def known_models(module: nn.Module, adapters: Sequence[Adapter]) -> list[Known]:
    """Returns every model of a known family among the modules of another, itself included."""
    found: dict[str, Known] = {}
    for path, each in module.named_modules():
        for adapter in adapters:
            if path not in found and (entries := entries_of(adapter, each)):
                found[path] = Known(path, each, adapter, entries)
    return list(found.values())


class Entries(Generic[Result]):
    """While open, the first call of a known model is read, and a second call is refused.

    The methods that run a known model are replaced in the instance, for calls from this thread. Hooks of modules run once, as
    they would. `inside` is true while a known model is read.
    """

    def __init__(self, name: str, known: Sequence[Known], read: Callable[..., Result]) -> None:
        self._name, self._known, self._read = name, known, read
        self.inside = False
        self._first: Known | None = None
        self._results: list[Result] = []
        self._error: AttentionError | None = None

    def __enter__(self) -> Entries[Result]:
        self._replaced = replaced_methods(self._replacements())
        self._replaced.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._replaced.__exit__(*error)

    def _replacements(self) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
        for each in self._known:
            for entry in each.entries:
                original = method_of(each.module, entry)
                yield each.module, entry, partial(self._entered, each, original)

    def result(self) -> tuple[Result, Known]:
        """Returns the result, and the model that ran, after the forward."""
        if self._error is not None:
            raise self._error
        if self._first is None or not self._results:
            there = ", ".join(map(str, self._known))
            raise AttentionError(
                f"{self._name} does not call the known model inside, {there}, as a whole, so the layout of its tokens is not"
                " known.",
                "Capture that model alone, or give the layout: reading=ac.Reading(tokens=ac.TokenLayout.text()), or for images"
                " tokens=ac.TokenLayout.image(grid=(rows, columns), class_token=True).",
            )
        return self._results[0], self._first

    def _entered(self, known: Known, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.inside:
            return original(*args, **kwargs)
        self.inside = True
        try:
            self._check_first(known)
            called = original if known.adapter.recognises(original) else known.module
            outputs: list[Any] = []
            self._results.append(self._read(known, called, args, kwargs, original, outputs.append))
            return outputs[0]
        except AttentionError as error:  # kept: the forward may catch it
            self._error = error
            raise
        finally:
            self.inside = False

    def _check_first(self, known: Known) -> None:
        first, self._first = self._first, self._first or known
        if first is None:
            return
        if first is known:
            raise AttentionError(
                f"{known} runs more than once in {self._name}, and its maps cannot be told apart.",
                "Give inputs for which it runs once"
                + (f', or capture it alone: capture(model.get_submodule("{known.path}"), …).' if known.path else "."),
            )
        towers = " or ".join(f'reading=ac.Reading(tower="{each.path}")' for each in (first, known))
        raise AttentionError(f"{self._name} runs several known models, {first} and {known}.", f"Say which is meant: {towers}.")
