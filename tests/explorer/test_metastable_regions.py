"""Metastable states in the page, or the reason why there are none."""

from __future__ import annotations

import pytest

import attnchain_interp as ac
from attnchain_interp.explorer import metastable_regions

from .stores import random_store


def test_regions_are_metastable_states() -> None:
    store = random_store(n=17)
    payload = ac.explore(store).payload
    method = ac.MetastableStates()
    chi = method.memberships(store)[0][1:]
    weights = payload.header["regions"][0]["weights"]
    assert payload.array("regions")[:, : len(weights)] == pytest.approx(chi.numpy(), abs=1e-4)


def test_a_long_chain_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metastable_regions, "MOST", 5)
    header = ac.explore(random_store()).payload.header
    assert header["regions"] == [
        {"heads": heads, "missing": "not computed for more than 5 tokens"} for heads in header["weightings"]
    ]
