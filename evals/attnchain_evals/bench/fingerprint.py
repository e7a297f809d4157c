"""The identity of a run: digests of weights and code, and settings of methods and metrics as JSON can hold them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.tasks.digest import digest, model_identity
from attnchain_interp import AttentionError

PACKAGES = ("attnchain_interp", "attnchain_adapters", "attnchain_evals")
VERSIONS = ("attnchain-interp", "torch", "numpy", "captum", "scipy", "timm", "transformers")
_NOTHING = object()


def key_of(configuration: Mapping[str, Any]) -> str:
    """Returns 16 hexadecimal digits that name a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Returns the differences of two configurations, each with its path: "methods.TokenRank.damping: 0.99, not 0.85".

    A part that one of them lacks is one difference: "methods.TokenRank: {…}, not nothing".
    """
    return [f"{path}: {left}, not {right}" for path, left, right in _differing(here, there)]


def _differing(here: Any, there: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for name in {**here, **there}:
            yield from _differing(here.get(name, _NOTHING), there.get(name, _NOTHING), f"{path}.{name}" if path else str(name))
    elif (left := _said(here)) != (right := _said(there)):
        yield path, left, right


def _said(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    return "{…}" if isinstance(value, Mapping) and value else json.dumps(value)


def method_identity(method: Any) -> dict[str, Any]:
    """Returns the class and the settings. The run names the model that a method holds.

    A class outside installed packages is also known by its code, and by its attributes whose names begin with "_".
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


_DEEPEST = 20
_NAMED = (torch.dtype, torch.device, torch.Size, slice, range, PurePath, complex, bytes)


def plain(value: Any, name: str = "a setting", depth: int = 0) -> Any:
    """Returns a setting as JSON can hold it: numbers and texts as they are, arrays and functions by their contents.

    An object that says nothing of its contents is refused: two of them could not be told apart.
    """
    inner = functools.partial(plain, name=name, depth=depth + 1)
    if depth > _DEEPEST:
        raise _undigested(name, value)
    if value is None or isinstance(value, bool | int | float | str):
        return value if isinstance(value, str) or not isinstance(value, Enum) else str(value)
    if isinstance(value, np.generic):
        return inner(value.item())
    if isinstance(value, np.ndarray):
        return ["array", str(value.dtype), list(value.shape), _array(value, name)]
    if isinstance(value, Tensor):
        return digest(value)
    if isinstance(value, list | tuple):
        return [inner(part) for part in value]
    if isinstance(value, set | frozenset):
        return ["set", *sorted((inner(part) for part in value), key=repr)]
    if isinstance(value, Mapping):
        return {str(key): inner(part) for key, part in value.items()}
    if isinstance(value, Enum | type):
        return str(value) if isinstance(value, Enum) else {"class": public_name(value), "code": code_of(value)}
    if isinstance(value, _NAMED):
        return repr(value)
    if isinstance(value, nn.Module):
        return model_identity(value)
    if isinstance(value, functools.partial):
        return ["partial", inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, MethodType):
        return ["method", inner(value.__self__), inner(value.__func__)]
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return {
            "function": public_name(value),
            "code": _code(value),
            "held": inner([held, value.__defaults__, value.__kwdefaults__]),
        }
    if callable(value) and hasattr(value, "__qualname__"):  # of C
        return public_name(value)
    if not hasattr(value, "__dict__") or type(value).__module__ in ("builtins", "_io", "torch._C"):
        raise _undigested(name, value)
    return {"class": public_name(type(value)), "code": code_of(type(value)), **inner(vars(value))}


def _undigested(name: str, value: Any) -> AttentionError:
    return AttentionError(
        f"{name} holds an object of type {type(value).__name__}, whose contents cannot be compared with those of another run.",
        "Use numbers, texts, lists, tensors, modules, functions, or objects of these.",
    )


def _array(value: Any, name: str) -> str:
    if value.dtype.hasobject:
        raise _undigested(name, value)
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


def public_name(value: Any) -> str:
    """Returns the name of a class or function in the outermost package that offers it: "attnchain_interp.TokenRank".

    A public name stays when the code moves to another module. So digests stay, too.
    """
    parts = str(value.__module__).split(".")
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    offers = (name for name in packages if getattr(sys.modules.get(name), value.__qualname__, None) is value)
    return f"{next(offers, value.__module__)}.{value.__qualname__}"


def code_of(kind: type) -> str | None:
    """Returns the sha256 of the code of a class and of those that it inherits from; None of installed packages alone.

    Installed packages have versions, which a run names. A class of a notebook or a script has the same name after an edit.
    """
    own = [base for base in kind.__mro__ if not _installed(base.__module__)]
    return _hashed(part for base in own for part in _parts(vars(base))) if own else None


def _installed(module: str) -> bool:
    if module == "__main__":
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module.partition(".")[0] in (*PACKAGES, *sys.stdlib_module_names) or "site-packages" in file


def _code(function: FunctionType) -> str | None:
    return None if _installed(function.__module__) else _hashed(_bytes(function.__code__))


def _parts(members: Mapping[str, Any]) -> Iterator[bytes]:
    for name, member in sorted(members.items()):
        function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
        function = getattr(function, "__wrapped__", function)
        if isinstance(function, FunctionType):
            yield name.encode()
            yield from _bytes(function.__code__)
        elif isinstance(member, bool | int | float | str | tuple):
            yield f"{name}={member!r}".encode()


def _bytes(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytes(constant)
        else:
            yield (repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)).encode()


def _hashed(parts: Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()[:16]
