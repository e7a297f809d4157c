"""Rows of metastable states: of the patches of a photograph by a trained model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import attnchain_interp as ac
from studies.speed.measurement import memory_of, seconds_of
from studies.speed.real_maps import photograph
from studies.speed.real_models import loaded
from studies.speed.rows import Bar, Figure, Row

_PATCH: Final = 14  # pixels
_ROUNDS: Final = 5


def chain(patches: int, keep: Literal["maps", "factors"]) -> ac.Chain:
    """The balanced chain of the last three layers' attention, of a square of patches."""
    model, image = loaded("dinov2-small", "AutoModel"), photograph(patches * _PATCH)
    return ac.capture(model, image, layers=slice(-3, None), keep=keep).chain(balanced=True)


def states_job() -> Callable[[], Any]:
    made = chain(74, "factors")
    ac.metastable_states(chain(20, "factors"), 2)
    return partial(ac.metastable_states, made, 9)  # 10 part a complex pair


def of_maps() -> list[Figure]:
    made = chain(32, "maps")
    best = min(seconds_of(partial(ac.metastable_states, made, 10)) for _ in range(_ROUNDS))
    return [Figure(f"time of 10 states, least of {_ROUNDS}", best, "s", Bar(0.15))]


def of_factors() -> list[Figure]:
    found = memory_of(states_job)
    return [
        Figure("time of 9 states, one call", found.seconds, "s", Bar(6)),
        Figure("peak extra memory", found.extra / 1e6, "MB", Bar(300)),
    ]


ROWS: Final = [
    Row("states-1024", "metastable states of 1,024 patches, from maps of DINOv2-small", of_maps),
    Row("states-5476", "metastable states of 5,476 patches, from factors of DINOv2-small", of_factors),
]
