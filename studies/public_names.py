"""The public names of the packages. docs/api lists each of them once, and the site links to them."""

from __future__ import annotations

from importlib import import_module
from inspect import ismodule
from pkgutil import iter_modules
from typing import Final

OTHER_PACKAGES: Final = ("attnchain_evals", "attnchain_adapters.tracing")


def public_names() -> dict[str, str]:
    """Returns dotted name → name of everything public.

    A name of the core is `attnchain_interp.NAME` if the package itself has it. It is `attnchain_interp.ROOM.NAME` if only the
    `__all__` of a room has it.
    """
    core = import_module("attnchain_interp")
    top = [name for name in core.__all__ if not ismodule(getattr(core, name))]
    found = {f"attnchain_interp.{name}": name for name in top}
    for room in (each.name for each in iter_modules(core.__path__)):
        module = import_module(f"attnchain_interp.{room}")
        for name in getattr(module, "__all__", ()):
            if name not in top or getattr(core, name) is not getattr(module, name):
                found[f"attnchain_interp.{room}.{name}"] = name
    for package in OTHER_PACKAGES:
        found |= {f"{package}.{name}": name for name in import_module(package).__all__}
    return found
