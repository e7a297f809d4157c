"""Arguments of public functions that could be taken for one another are given by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import attnchain_evals
import attnchain_interp as ac
from attnchain_adapters import tracing
from attnchain_interp import diffusion, pictures

ELSEWHERE = {"explain_func", "Trial"}  # Quantus calls the one; the benchmark makes the other
MOST = 2  # optional arguments by position, as Captum has target and additional_forward_args


def functions() -> dict[str, Callable[..., Any]]:
    """The public functions, classes and methods of classes."""
    found: dict[str, Callable[..., Any]] = {}
    for room in (ac, diffusion, pictures, tracing, attnchain_evals):
        for name in (name for name in room.__all__ if name not in ELSEWHERE):
            thing = getattr(room, name)
            if inspect.isfunction(thing):
                found[name] = thing
            elif isinstance(thing, type) and not issubclass(thing, Exception | dict | int | tuple):
                own = {each: getattr(thing, each) for each in vars(thing) if not each.startswith("_")}
                found |= {
                    f"{name}.{each}": one for each, one in own.items() if inspect.isfunction(one) or inspect.ismethod(one)
                }
                found[name] = thing
    return found


@pytest.mark.parametrize("name", functions())
def test_few_optional_arguments_by_position(name: str) -> None:
    parameters = inspect.signature(functions()[name]).parameters.values()
    optional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is not each.empty]
    most = MOST + (name == "TokenLayout.image")  # a grid and roles are not taken for one another
    assert len(optional) <= most, f"give {optional[most:]} by name: * before them"
