"""Where the model stands while the code of a trace runs: before a module, inside it, or behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal


class Position:
    """Where the model waits for the code of a trace.

    Attributes:
        location: of the value that was served last, "model.layers.0.output"; empty before the first.
        wanted: the step of a generation to which `tracer.iter` pins the next request; None or 0 where it does not.
        visits: a location → how often the model has passed it. Always 0 outside `tracer.iter` in nnsight 0.7.
    """

    def __init__(self, location: str, wanted: int | None, visits: Callable[[str], int]) -> None:
        self.location, self.wanted, self.visits = location, wanted, visits


def position(envoy: Any) -> Position:
    """Returns where the model waits, in the trace of which `envoy` is a module.

    Raises:
        ValueError: no trace runs.
    """
    running = getattr(sys.modules.get("greenlet"), "getcurrent", lambda: None)()
    if (link := getattr(running, "mediator", None)) is not None:
        mediator = link()
        return Position((mediator.pending and mediator.pending.provider) or "", mediator.iteration, mediator.occurrence)
    mediator = getattr(envoy.interleaver, "current", None)  # nnsight 0.7
    if mediator is None:
        raise ValueError("there is no trace here. Call this inside one: with model.trace(prompt): …")
    batcher = envoy.interleaver.batcher
    location, _, _ = (batcher.current_provider or "").rpartition(".i")
    return Position(location, mediator.iteration, lambda location: mediator.iteration_tracker.get(location, 0))


def reached(envoy: Any) -> Literal["", "inside", "behind"]:
    """Returns whether the model stands inside a module or at its output, or behind it; "" where it does not.

    nnsight raises an error where a value has passed. But in a later step of a generation it serves that of the next step
    instead, which is why this looks first.
    """
    here = position(envoy)
    if not here.location or (here.wanted and here.visits(here.location) < here.wanted):  # the step before the wanted one
        return ""
    if here.visits(f"{envoy.path}.output") > here.visits(here.location):
        return "behind"
    return "inside" if here.location.startswith(f"{envoy.path}.") and here.location != f"{envoy.path}.input" else ""
