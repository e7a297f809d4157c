"""Inputs at random, as many as a test can afford, or a hundred times as many: `python -m studies.guarantees`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from attnchain_interp import AttentionError

LONGER = int(os.environ.get("ATTNCHAIN_FUZZING", "1"))


def fuzzed(examples: int, *strategies: Any, suppress: Sequence[HealthCheck] = (), shrink: bool = True) -> Callable[[Any], Any]:
    """Returns the decorator of a test that is called with so many examples. The same ones each time, unless it runs longer."""
    chosen = settings(
        max_examples=examples * LONGER,
        deadline=None,
        derandomize=LONGER == 1,
        phases=[phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, *suppress],
    )
    return lambda test: chosen(given(*strategies)(test))


def refused_or(call: Callable[[], Any], naming: Path | str = "") -> Any:
    """Returns the call's result, or None where it is refused by an `AttentionError` that names the file."""
    try:
        return call()
    except AttentionError as error:
        refusal = str(error)
    assert str(naming) in refusal
    return None
