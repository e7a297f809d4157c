"""Reducers: their reprs, and their results on one chain."""

from collections.abc import Callable

import pytest
import torch

import attnchain_interp as ac

LAYOUT = ac.TokenLayout.image(1, (2, 2), prefix=[ac.Role.CLASS])
MAPS = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
EVERY = torch.ones(1, 2, 5, dtype=torch.bool)


def test_reprs() -> None:
    names = "tokens=None, name='{}', balanced=False)"
    assert repr(ac.StationaryVectors(damping=0.9)) == "StationaryVectors(damping=0.9, " + names.format("stationary")
    assert repr(ac.Bounces(steps=3)) == "Bounces(start=None, steps=3, " + names.format("bounce")
    assert repr(ac.Entropies(tokens="all")) == "Entropies(tokens='all', name='entropy')"
    assert [reducer().starts_anywhere for reducer in (ac.ClassRows, ac.Bounces, ac.ColumnSums)] == [True, True, False]


def test_results_of_one_chain() -> None:
    chain = ac.restrict(MAPS, EVERY)
    expected = {
        ac.StationaryVectors(damping=0.9): ac.stationary(MAPS, 0.9),
        ac.SecondEigenvalues(): ac.second_eigenvalue(MAPS),
        ac.ColumnSums(): MAPS.mean(-2),
        ac.ClassRows(): MAPS[..., 0, :],
        ac.Bounces(start="class", steps=2): (MAPS @ MAPS)[..., 0, :],
        ac.StationaryVectors(damping=0.9, balanced=True): ac.stationary(ac.balance(MAPS), 0.9),
        ac.Bounces(start="class", steps=2, balanced=0.5): ac.bounce(ac.balance(MAPS, 0.5), 0, 2),
        ac.Entropies(): torch.special.entr(MAPS).sum(-1).mean(-1),
    }
    for reducer, result in expected.items():
        assert torch.allclose(reducer.reduce(chain, LAYOUT), result, atol=1e-5), reducer


def test_a_walk_starts_as_that_of_multi_bounce_by_default() -> None:
    """At the class token, else at the last token of a decoder."""
    tril = MAPS.tril()
    causal = tril / tril.sum(-1, keepdim=True)
    text = ac.TokenLayout.text(torch.ones(1, 5))
    assert torch.allclose(ac.Bounces(steps=1).reduce(ac.restrict(MAPS, EVERY), LAYOUT), MAPS[..., 0, :])
    assert torch.allclose(ac.Bounces(steps=1).reduce(ac.restrict(causal, EVERY), text), causal[..., -1, :])


def test_damping_is_a_probability() -> None:
    with pytest.raises(ac.AttentionError, match="damping is 2"):
        ac.StationaryVectors(damping=2)


@pytest.mark.parametrize("build", [ac.StationaryVectors, ac.Bounces])
def test_the_strength_is_refused_before_the_forward(build: Callable[..., object]) -> None:
    with pytest.raises(ac.AttentionError, match="balanced is 2; it is whether the chain is balanced, or the strength"):
        build(balanced=2)
