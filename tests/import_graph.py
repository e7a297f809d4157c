"""The graph of imports between modules, read from their sources: every import counts, also inside functions and for types."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]
FOLDERS = {"attnchain_interp": ROOT, "attnchain_adapters": ROOT / "adapters", "attnchain_evals": ROOT / "evals"}

Sources = Mapping[str, str]  # dotted name of a module → its source; a package is its `__init__`


def sources() -> dict[str, str]:
    """The source of every module of the three packages. The names of a lazy package stand in its `__init__.pyi`."""
    return {
        ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): _read(file)
        for package, folder in FOLDERS.items()
        for file in (folder / package).rglob("*.py")
    }


def _read(file: Path) -> str:
    stub = file.with_suffix(".pyi")
    return file.read_text("utf-8") + (stub.read_text("utf-8") if stub.exists() else "")


def imports(source: str, module: str = "", package: bool = False) -> Iterator[tuple[str, str | None]]:
    """Yields (module, name) of every import of a name, and (module, None) of every import of a module.

    Relative imports are resolved from `module`. Where a package is imported as a whole (`import attnchain_interp as ac`), each
    attribute that is read (`ac.capture`) counts as an import of that name.
    """
    tree, whole = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
                whole[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield origin, alias.name
                whole[alias.asname or alias.name] = f"{origin}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (origin := _dotted(node.value, whole)):
            yield origin, node.attr


def _dotted(node: ast.expr, whole: Mapping[str, str]) -> str | None:
    """The module that an expression like `ac.pictures` may stand for."""
    if isinstance(node, ast.Attribute):
        origin = _dotted(node.value, whole)
        return f"{origin}.{node.attr}" if origin else None
    return whole.get(node.id) if isinstance(node, ast.Name) else None


def is_package(module: str, known: Sources) -> bool:
    return any(name.startswith(f"{module}.") for name in known)


def is_door(module: str, known: Sources) -> bool:
    """Whether a module is a package's `__init__` that only hands on the names of others."""
    defined = (ast.FunctionDef, ast.ClassDef)
    return is_package(module, known) and not any(isinstance(node, defined) for node in ast.parse(known[module]).body)


def definer(module: str, name: str | None, known: Sources) -> str | None:
    """The module that an import leads to: through the doors of packages, to the one that defines the name."""
    if name is not None and f"{module}.{name}" in known:
        return f"{module}.{name}"
    if module not in known:
        return None
    if name is not None and is_package(module, known):
        for origin, found in imports(known[module], module, package=True):
            if found == name and origin != module:
                return definer(origin, name, known) or module
    return module


def edges(known: Sources) -> set[tuple[str, str]]:
    """(importer, imported) between modules that are not doors. A name taken through a door leads to the module behind it.

    The doors themselves are left out: they import their own rooms. `through_own_door` finds the modules that use the door of
    a package in which they are.
    """
    found = set()
    door, leads_to = cache(lambda module: is_door(module, known)), cache(lambda origin, name: definer(origin, name, known))
    for module, source in known.items():
        if door(module):
            continue
        for origin, name in imports(source, module, is_package(module, known)):
            target = leads_to(origin, name)
            if target is not None and target != module and not door(target):
                found.add((module, target))
    return found


def through_own_door(known: Sources) -> set[tuple[str, str]]:
    """(module, package) where a module takes a name from the `__init__` of a package that holds it: a cycle at run time."""
    return {
        (module, origin)
        for module, source in known.items()
        for origin, name in imports(source, module)
        if module.startswith(f"{origin}.") and is_package(origin, known) and name and f"{origin}.{name}" not in known
    }


def cycles(graph: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups of modules that import one another."""
    return [sorted(group) for group in nx.strongly_connected_components(nx.DiGraph(graph)) if len(group) > 1]


def upward(graph: Iterable[tuple[str, str]], package: str, rooms: list[str]) -> set[tuple[str, str]]:
    """The edges within a package that lead from a room to one further down in the list."""

    def place(module: str) -> int | None:
        parts = module.split(".")
        return rooms.index(parts[1]) if parts[0] == package and parts[1] in rooms else None

    return {
        (importer, imported)
        for importer, imported in graph
        if (own := place(importer)) is not None and (other := place(imported)) is not None and other > own
    }


def public_names(known: Sources, package: str) -> set[tuple[str, str]]:
    """(module, name): names of the package's own door, and those in the `__all__` of a room, or of a room that is one file."""
    found = {(package, name) for name in door_names(known[package])}
    for module in known:
        if module.count(".") == 1 and module.startswith(f"{package}."):
            found |= {(package, module.split(".")[1])} | {(module, name) for name in declared(known[module])}
    return found


def door_names(source: str) -> set[str]:
    """Names that a stub exports: imported under an `as` of the same name."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names if alias.asname == alias.name}


def declared(source: str) -> set[str]:
    """The names in `__all__`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def private_uses(known: Sources, package: str, users: Iterable[str]) -> set[tuple[str, str]]:
    """(module, what) where a module of the users takes something of the package that is not public."""
    public = public_names(known, package)
    return {
        (module, f"{origin}.{name}" if name else origin)
        for module, source in known.items()
        if module.split(".")[0] in users
        for origin, name in imports(source, module)
        if origin in known
        and origin.split(".")[0] == package
        and not ((name is None and origin.count(".") < 2) or (origin, name) in public or str(name).startswith("__"))
    }
