"""The qualities in which a page holds maps, and how the budget picks one."""

from __future__ import annotations

import numpy as np
import pytest

import attnchain_interp as ac
from attnchain_interp.explorer.encoding import dequantise
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.map_quality import MeasuredMaps, contribution_qualities

from .stores import random_store


def test_every_quality_is_smaller_and_says_its_error() -> None:
    store = random_store(layers=3, heads=4, n=50)
    chains = ExampleChains(store, 0, None)
    exact = np.concatenate([maps for maps, _ in chains.maps()])
    measured = MeasuredMaps(chains, 10**6)
    qualities = list(measured.qualities())
    assert [quality.scope for quality in qualities if not quality.kept] == [
        *["heads"] * 7,
        *["layers"] * 4,
        *["means"] * 5,
        *["all"] * 5,
        "none",
    ]
    assert {quality.kept for quality in qualities} == {0, 32, 16, 8}
    encoded = [quality.encoded() for quality in qualities]
    sizes = [one.size for one in encoded]
    for what in ("heads", "layers", "means", "all"):
        own = [size for size, quality in zip(sizes, qualities, strict=True) if quality.scope == what and not quality.kept]
        assert own == sorted(own, reverse=True)
    assert all(0 < one.misplaced < 0.5 for one in encoded[:-1])
    assert encoded[0].error == pytest.approx(np.abs(dequantise(encoded[0].sections["maps"]) - exact).max())


def test_a_text_without_tokens_outside_the_chain_has_every_quality() -> None:
    chains = ExampleChains(random_store(causal=True), 0, None)
    qualities = list(MeasuredMaps(chains, 10**6).qualities())
    assert {quality.scope for quality in qualities} == {"heads", "layers", "means", "all", "none"}
    assert all(quality.encoded().sections["outside"].size == 0 for quality in qualities[:-1])


def test_the_size_of_a_quality_is_foreseen_and_never_too_high() -> None:
    for quality in MeasuredMaps(ExampleChains(random_store(layers=2, heads=2, n=145), 0, None), 10**6).qualities():
        assert quality.least_size() <= quality.encoded().size
        assert quality.scope == "none" or quality.least_size() > 0.3 * quality.encoded().size


def test_contributions_are_one_map_a_layer_of_the_same_forward() -> None:
    store = random_store(causal=True, n=12)
    chains = ExampleChains(store, 0, None)
    one = ac.AttentionStore.from_maps([layer.maps.mean(1, keepdim=True) for layer in store])
    best, *_ = contribution_qualities(one, chains)
    assert best.maps == pytest.approx(np.stack([layer.maps[0, 0].numpy() for layer in one]))
    with pytest.raises(ac.AttentionError, match="several maps in layer 'layer.0'"):
        contribution_qualities(store, chains)
    with pytest.raises(ac.AttentionError, match="1 layers × 12 tokens, and the store has 2 × 12"):
        contribution_qualities(one.only([0]), chains)
