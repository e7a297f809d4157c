"""The identity of a run: digests of weights and code, settings of methods and metrics."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.tasks.digest import digest, model_identity

PACKAGES = ("attnchain_interp", "attnchain_adapters", "attnchain_evals")
VERSIONS = ("attnchain-interp", "torch", "numpy", "captum", "scipy", "timm", "transformers")


def key_of(configuration: Mapping[str, Any]) -> str:
    """Returns 16 hexadecimal digits that name a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Returns the differences of two configurations, each with its path: "methods.TokenRank.damping: 0.99, not 0.85"."""
    left, right = dict(_flat(here)), dict(_flat(there))
    paths = [path for path in {**left, **right} if left.get(path, "nothing") != right.get(path, "nothing")]
    return [f"{path}: {left.get(path, 'nothing')}, not {right.get(path, 'nothing')}" for path in paths]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, json.dumps(value)


def method_identity(method: Any) -> dict[str, Any]:
    """Returns the class and the settings. The run names the model that a method holds."""
    settings = {name: _plain(value) for name, value in vars(method).items() if name[0] != "_" and name != "forward_func"}
    return {"class": public_name(type(method)), **settings}


def public_name(value: Any) -> str:
    """Returns the name of a class or function in the outermost package that offers it: "attnchain_interp.TokenRank".

    A public name stays when the code moves to another module. So digests stay, too.
    """
    parts = value.__module__.split(".")
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    offers = (name for name in packages if getattr(sys.modules.get(name), value.__qualname__, None) is value)
    return f"{next(offers, value.__module__)}.{value.__qualname__}"


def metric_identity(metric: ExampleMetric) -> dict[str, Any]:
    """Returns version, columns and direction of a metric, and its settings: the arguments of its class that it keeps."""
    arguments = inspect.signature(type(metric).__init__).parameters
    settings = {name: _plain(getattr(metric, name)) for name in arguments if name != "name" and hasattr(metric, name)}
    return {
        **settings,
        "version": metric.version,
        "columns": list(metric.columns),
        "higher_is_better": bool(metric.higher_is_better),
    }


def code_identity() -> dict[str, str]:
    """Returns the versions of the libraries, and the sha256 of our sources, since an editable install keeps its version."""
    found = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(folder).rglob("*.py")):
                found.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return {"sources": found.hexdigest(), **{name: _version(name) for name in VERSIONS}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> Any:
    """Returns a setting as JSON can hold it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return digest(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, slice):
        return str(value)
    if isinstance(value, nn.Module):
        return model_identity(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return public_name(value)
    inner = {name: _plain(part) for name, part in vars(value).items()} if hasattr(value, "__dict__") else {}
    return {"class": type(value).__qualname__, **inner}
