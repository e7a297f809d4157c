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
if hasattr(os, "register_at_fork"):  # the threads that hold locks are not in the child
    os.register_at_fork(after_in_child=_LOCKS.clear)


def turn(source: Any) -> AbstractContextManager[Any]:
    """Returns a context that one thread at a time is in, once or several times, for each model.

    Args:
        source: a module, compiled or not, or a bound method of it. Nothing waits for another source.
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


@contextmanager
def replaced_methods(replacements: Iterable[tuple[nn.Module, str, Callable[..., Any]]]) -> Iterator[None]:
    """While open, methods of some instances (module, name) are replaced, for calls of this thread."""
    before, thread, is_open = [], get_ident(), True

    def replacing(original: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def called(*args: Any, **kwargs: Any) -> Any:
            return (replacement if is_open and get_ident() == thread else original)(*args, **kwargs)

        return called

    try:
        for module, name, replacement in replacements:
            before.append((module, name, module.__dict__.get(name)))
            module.__dict__[name] = replacing(getattr(module, name), replacement)
        yield
    finally:
        is_open = False
        for module, name, own in before:
            if own is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = own
