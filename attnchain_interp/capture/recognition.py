"""The adapter that reads a source: by what the source is, or by the known model that runs inside it."""

from __future__ import annotations

import inspect
from typing import Any

from attnchain_interp.capture.adapter import Adapter, adapters, entries_of
from attnchain_interp.capture.entries import Known, known_models
from attnchain_interp.capture.inside import InsideAdapter
from attnchain_interp.capture.source import module_of
from attnchain_interp.errors import AttentionError


def adapter_of(source: Any) -> Adapter | None:
    """Returns the adapter that reads a source, or None.

    First comes the adapter that knows the family of the source; then the known models inside; then an adapter that recognises
    the source, of which torch's is the last.
    """
    announced = dict(adapters())
    every, plain, module = list(announced.values()), announced.get("torch"), module_of(source)
    recognised = next((adapter for adapter in every if adapter.recognises(source)), None)
    if module is None or (recognised is not None and module is not source):  # a method that an adapter knows: generate
        return recognised
    if module is source and (known := next((each for each in every if "forward" in entries_of(each, module)), None)):
        return known
    if inside := known_models(module, every):
        return InsideAdapter(inside, plain)
    if module is source or plain is None or not plain.recognises(module) or _gives_a_store(source):
        return recognised
    return InsideAdapter([Known("", module, plain, (source.__name__,))])


def _gives_a_store(method: Any) -> bool:
    """Returns whether a method says that it returns an `AttentionStore`, as a source of the user's own."""
    return str(inspect.signature(method).return_annotation).split(".")[-1].startswith("AttentionStore")


def required_adapter(source: Any, purpose: str, instead: str) -> Adapter:
    """Returns the adapter that reads a source."""
    adapter = adapter_of(source)
    if adapter is None:
        raise AttentionError(f"{purpose} a model that an adapter recognises; got {type(source).__name__}.", instead)
    return adapter
