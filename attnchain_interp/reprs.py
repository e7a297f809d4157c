"""Short reprs: types and shapes of tensors, and the settings that differ from the defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor, nn

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["brief", "counted", "first_problem", "visible", "with_fields", "with_settings"]

_LONGEST = 6  # entries of a list that are shown
_PICTURES: Final = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}  # of control characters
_TURNS: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # characters that turn the direction of all that follows
_VISIBLE: Final[dict[int, int | str]] = {**_PICTURES, **{code: f"\\u{code:x}" for code in _TURNS}}


def brief(value: Any) -> str:
    """Returns a value in few characters: a tensor by type and shape, a model by its class.

    >>> import torch
    >>> brief([torch.zeros(2, 3), torch.zeros(2, 3)]), brief({"maps": torch.zeros(1)}), brief(0.5)
    ('[2 × float32 (2, 3)]', '{maps}', '0.5')
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, Mapping):
        return "{" + _joined([str(name) for name in value]) + "}"
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        entries = [brief(each) for each in value]
        if len(entries) > 1 and len(set(entries)) == 1 and isinstance(value[0], Tensor):
            return f"[{len(entries)} × {entries[0]}]"
        return _joined(entries).join("[]" if isinstance(value, list) else "()")
    if isinstance(value, Callable) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return repr(value)


def visible(text: str, but: str = "") -> str:
    """Returns a text in which every character is seen: control characters as pictures, turns of direction as escapes.

    Args:
        text: of tokens.
        but: control characters that are left as they are.

    >>> visible("a\\tb\\n", but="\\n"), visible("\\u202ea"), visible("\\ud800")
    ('a␉b\\n', '\\\\u202ea', '\\\\ud800')
    """
    table = {code: seen for code, seen in _VISIBLE.items() if chr(code) not in but}
    return text.translate(table).encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural but for one.

    >>> counted(1, "layer"), counted(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_problem(error: ValidationError) -> str:
    """Returns the field, the rule and the value of the first thing that a schema of pydantic refused."""
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {said}; {short(first['input'])} came"


def with_fields(thing: Any) -> str:
    """Returns the repr of a dataclass or a named tuple whose fields hold tensors."""
    names = thing._fields if hasattr(thing, "_fields") else [field.name for field in fields(thing) if field.repr]
    return f"{type(thing).__name__}({', '.join(f'{name}={brief(getattr(thing, name))}' for name in names)})"


def with_settings(thing: Any) -> str:
    """Returns the repr of an object that keeps its arguments as attributes: those that differ from their defaults."""
    shown = []
    for name, parameter in inspect.signature(type(thing)).parameters.items():
        value = getattr(thing, name, parameter.default)
        if name == "forward_func":
            shown += [] if value is None else [brief(value)]
        elif value is not parameter.default and not _equal(value, parameter.default):
            shown.append(f"{name}={brief(value)}")
    return f"{type(thing).__name__}({', '.join(shown)})"


def _equal(value: Any, default: Any) -> bool:
    return type(value) is type(default) and not isinstance(value, Tensor) and bool(value == default)


def _joined(entries: list[str]) -> str:
    if len(entries) > _LONGEST:
        entries = [*entries[:2], "…", entries[-1]]
    return ", ".join(entries)
