"""The best page within a number of bytes."""

from __future__ import annotations

import attnchain_interp as ac
from attnchain_interp.explorer.page import page

from .stores import random_store


def test_contributions_and_the_picture_follow_the_room() -> None:
    store = random_store(n=145, causal=True, layers=6, heads=4)
    contributions = ac.AttentionStore.from_maps([layer.maps.mean(1, keepdim=True) for layer in store])
    explorer = ac.explore(store, contributions=contributions)
    for room in (1_000_000, 300_000, 180_000):
        payload, size = explorer._budget.best(room)
        assert size == len(page(payload, explorer.still).encode()) <= room
        assert payload.header["room"] == room
        held = payload.header["contributions"]
        assert held["what"] == "means"
        assert len(payload.sections["contributions.maps"]) * 4 / 3 <= 0.4 * room + 2
    payload, size = explorer._budget.best(1000)
    assert size > 1000
    assert payload.header["maps"]["what"] == "none"
