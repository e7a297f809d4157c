"""The qualities in which a page holds maps, and how the budget picks one."""

from __future__ import annotations

import numpy as np
import pytest

from attnchain_interp.explorer.encoding import dequantise
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.map_quality import MeasuredMaps

from .stores import random_store


def test_every_quality_is_smaller_and_says_its_error() -> None:
    store = random_store(layers=3, heads=4, n=50)
    chains = ExampleChains(store, 0, None)
    exact = np.concatenate([maps for maps, _ in chains.maps()])
    measured = MeasuredMaps(chains, 10**6)
    qualities = list(measured.qualities())
    assert [quality.scope for quality in qualities if not quality.kept] == ["heads"] * 6 + ["layers"] * 6 + ["all"] * 6 + [
        "none"
    ]
    assert {quality.kept for quality in qualities} == {0, 32, 16, 8}
    encoded = [quality.encoded() for quality in qualities]
    sizes = [one.size for one in encoded]
    for what in ("heads", "layers", "all"):
        own = [size for size, quality in zip(sizes, qualities, strict=True) if quality.scope == what and not quality.kept]
        assert own == sorted(own, reverse=True)
    assert encoded[0].error == pytest.approx(np.abs(dequantise(encoded[0].sections["maps"]) - exact).max())


def test_a_text_without_tokens_outside_the_chain_has_every_quality() -> None:
    chains = ExampleChains(random_store(causal=True), 0, None)
    qualities = list(MeasuredMaps(chains, 10**6).qualities())
    assert {quality.scope for quality in qualities} == {"heads", "layers", "all", "none"}
    assert all(quality.encoded().sections["outside"].size == 0 for quality in qualities[:-1])


def test_the_size_of_a_quality_is_foreseen_and_never_too_high() -> None:
    for quality in MeasuredMaps(ExampleChains(random_store(layers=2, heads=2, n=145), 0, None), 10**6).qualities():
        assert quality.least_size() <= quality.encoded().size
        assert quality.scope == "none" or quality.least_size() > 0.3 * quality.encoded().size
