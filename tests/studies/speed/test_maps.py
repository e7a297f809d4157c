"""Generated maps are chains, come from their seed, and have the eigenvalue they are said to have."""

import pytest
import torch

from studies.speed import baseline
from studies.speed.maps import HELD_OUT_SEEDS, KINDS, TUNING_SEEDS, make_maps, make_queries_and_keys


@pytest.mark.parametrize("kind", KINDS)
def test_rows_sum_to_one(kind: str) -> None:
    maps = make_maps(kind, 2, 4, 26, seed=0)
    assert maps.shape == (2, 4, 26, 26)
    assert maps.dtype == torch.float32
    assert bool((maps >= 0).all())
    assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-6)
    assert (kind == "causal") == (not bool(maps.triu(1).any()))


def test_held_out_maps_are_others() -> None:
    assert not set(TUNING_SEEDS) & set(HELD_OUT_SEEDS)
    tuning, held_out, again = (make_maps("vit", 1, 4, 17, s) for s in (TUNING_SEEDS[0], HELD_OUT_SEEDS[0], HELD_OUT_SEEDS[0]))
    assert torch.equal(held_out, again)
    assert float((tuning - held_out).abs().max()) > 0.01


def test_nearly_decomposable_maps_have_the_stated_eigenvalue() -> None:
    maps = make_maps("nearly decomposable", 2, 5, 50, seed=0)
    found = baseline.second_eigenvalue(maps.flatten(0, 1)).view(2, 5)
    stated = torch.tensor([1 - (head.gap or 0) for head in KINDS["nearly decomposable"](5)], dtype=torch.float64)
    assert torch.allclose(found, stated.expand(2, 5), atol=2e-6)


def test_kinds_differ_as_they_are_named() -> None:
    def typical(kind: str) -> float:
        return float(baseline.second_eigenvalue(make_maps(kind, 1, 8, 50, seed=0)[0]).median())

    assert typical("smooth") < typical("vit") < typical("peaky")


def test_queries_and_keys_make_maps_of_their_own() -> None:
    query, key = make_queries_and_keys(4, 26, seed=0)
    assert query.shape == key.shape == (1, 4, 26, 64)
    maps = (query @ key.mT / 8).softmax(-1)[0]
    pi, _ = baseline.power_and_eigenvalues(maps, steps=2000)
    assert baseline.residual(maps, pi) < 1e-6
    assert baseline.factored_residual(query[0], key[0], pi, rows=10) == pytest.approx(baseline.residual(maps, pi), abs=1e-6)
    assert baseline.factored_residual(query[0], key[0], maps.new_full((4, 26), 1 / 26)) > 1e-3
