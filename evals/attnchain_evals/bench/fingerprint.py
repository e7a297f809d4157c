"""The identity of a run: digests of weights and code, settings of methods and metrics."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnchain_evals.bench.setting_digest import code_of, plain, public_name
from attnchain_evals.metrics.example_metric import ExampleMetric

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
    """Returns the class and the settings. The run names the model that a method holds.

    A class that no installed package has is also known by its code, and by what it keeps under names that begin with "_".
    """
    name = public_name(type(method))
    ours = name.partition(".")[0] in PACKAGES
    settings = {
        key: plain(value, f"setting {key!r} of {name}")
        for key, value in vars(method).items()
        if key != "forward_func" and not (ours and key[0] == "_")
    }
    code = code_of(type(method))
    return {"class": name, **({"code": code} if code else {}), **settings}


def metric_identity(metric: ExampleMetric) -> dict[str, Any]:
    """Returns version, columns and direction of a metric, and its settings: the arguments of its class that it keeps."""
    arguments = inspect.signature(type(metric).__init__).parameters
    settings = {name: plain(getattr(metric, name)) for name in arguments if name != "name" and hasattr(metric, name)}
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
