"""Threads that share a model: captures take turns, and calls of other threads pass by what a capture puts into it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from threading import RLock, get_ident
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from attnchain_interp.capture.source import module_of

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LOCKS: Final[WeakKeyDictionary[nn.Module, Any]] = WeakKeyDictionary()  # beside the modules, which may be copied and pickled
_REPLACING: Final = RLock()
if hasattr(os, "register_at_fork"):  # the threads that hold locks are not in the child
    os.register_at_fork(after_in_child=_LOCKS.clear)


def turn(source: Any) -> AbstractContextManager[Any]:
    """Returns a context that one thread at a time is in, once or several times, for each model.

    Args:
        source: a module, compiled or not, or a bound method of it. Nothing waits for another source. Code that runs in a turn
            (a target, a reducer, a hook of the user) must not wait for a thread that reads the same model.
    """
    module: Any = module_of(source)
    if module is None or isinstance(module, torch.jit.ScriptModule):
        return nullcontext()
    return _LOCKS.setdefault(module._modules.get("_orig_mod", module), RLock())


def in_turn(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function whose first argument is a source: it runs in the `turn` of that source."""
    first = next(iter(inspect.signature(function).parameters))

    @wraps(function)
    def waiting(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with turn(args[0] if args else kwargs.get(first)):
            return function(*args, **kwargs)

    return waiting


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a hook of a module that calls of other threads pass by."""
    thread = get_ident()

    def bound(*given: Any) -> Any:  # torch leaves out the keyword arguments once the handle is removed
        return hook(*given) if get_ident() == thread else None

    return bound


def method_of(module: nn.Module, name: str) -> Callable[..., Any]:
    """Returns the method that calls of this thread run: its replacement (`replaced_methods`), or the module's own."""
    replacements = getattr(module.__dict__.get(name), "replacements", None)
    return getattr(module, name) if replacements is None else replacements.get(get_ident(), replacements[None])


@contextmanager
def replaced_methods(replacements: Iterable[tuple[nn.Module, str, Callable[..., Any]]]) -> Iterator[None]:
    """While open, methods of some instances (module, name) are replaced, for calls of this thread.

    Models with different turns may share a module. So each thread has its own replacement, and the last thread restores.
    """
    opened, thread = [], get_ident()
    try:
        for module, name, replacement in replacements:
            with _REPLACING:
                if not hasattr(module.__dict__.get(name), "replacements"):
                    module.__dict__[name] = _dispatcher(getattr(module, name), module.__dict__.get(name))
                dispatcher = module.__dict__[name]
                opened.append((module, name, dispatcher, dispatcher.replacements.get(thread)))
                dispatcher.replacements[thread] = replacement
        yield
    finally:
        for module, name, dispatcher, before in reversed(opened):
            with _REPLACING:
                dispatcher.replacements[thread] = before
                if before is None:
                    del dispatcher.replacements[thread]
                if len(dispatcher.replacements) == 1:
                    module.__dict__[name] = dispatcher.own
                    if dispatcher.own is None:
                        del module.__dict__[name]


def _dispatcher(original: Callable[..., Any], own: Callable[..., Any] | None) -> Any:
    replacements: dict[int | None, Callable[..., Any]] = {None: original}  # by thread

    @wraps(original)
    def dispatched(*args: Any, **kwargs: Any) -> Any:
        return replacements.get(get_ident(), original)(*args, **kwargs)

    vars(dispatched).update(replacements=replacements, own=own)  # own: what the instance itself had
    return dispatched
