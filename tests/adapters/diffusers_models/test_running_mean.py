"""A running mean of maps over heads, layers and steps."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.running_mean import RunningMean
from attnchain_interp.capture import Shown

MAPS = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)  # layer, example, head, …


def filled(heads: str = "mean", each_layer: bool = False) -> RunningMean:
    mean = RunningMean(heads, each_layer)  # type: ignore[arg-type]
    mean.layers = frozenset("ab")
    for step in (0, 2):
        mean.next_forward()
        mean.take("a", Shown(MAPS[step]))
        mean.take("b", Shown(MAPS[step + 1]))
        mean.take("c", Shown(1 - MAPS[step]))
    return mean


def test_the_mean_is_over_heads_layers_and_steps() -> None:
    mean = filled()
    assert mean.counts == {"mean": 4}
    torch.testing.assert_close(mean.sums["mean"] / 4, MAPS.mean((0, 2)))


def test_a_mean_for_each_layer() -> None:
    mean = filled(each_layer=True)
    assert mean.counts == {"a": 2, "b": 2}
    torch.testing.assert_close(mean.sums["b"] / 2, MAPS[[1, 3]].mean((0, 2)))


def test_heads_are_weighted_by_their_eigenvalue() -> None:
    weights = ac.second_eigenvalue(MAPS)
    expected = (weights[..., None, None] * MAPS).sum(2) / weights.sum(2)[..., None, None]
    torch.testing.assert_close(filled("lambda2").sums["mean"], expected.sum(0), atol=1e-5, rtol=1e-4)


def test_factors_are_taken_as_their_maps() -> None:
    query, key = torch.randn(2, 1, 3, 5, 4).unbind(0), torch.randn(2, 1, 3, 5, 4).unbind(0)
    factors = ac.Factors(query[0], key[0])
    means = []
    for attention in (factors, factors.maps()):
        mean = RunningMean("mean", each_layer=False)
        mean.layers = frozenset("a")
        mean.take("a", Shown(attention))
        means.append(mean.sums["mean"])
    torch.testing.assert_close(*means)


def test_what_is_refused_says_why() -> None:
    mean = filled()
    with pytest.raises(ac.AttentionError, match="'a' computes attention twice in one forward"):
        mean.take("a", Shown(MAPS[0]))
    mean.next_forward()
    with pytest.raises(ac.AttentionError, match=r"(?s)maps change from \(2, 5, 5\) to \(2, 4, 4\)"):
        mean.take("a", Shown(MAPS[0, ..., :4, :4]))
    mean.tokens = (5, 5)
    mean.next_forward()
    with pytest.raises(ac.AttentionError, match=r"(?s)from 5 to 4 tokens, not from 5 to 5 .*set_default_attn_processor\(\)"):
        mean.take("a", Shown(MAPS[0, ..., :4]))
    with pytest.raises(ac.AttentionError, match="heads='max' is unknown"):
        filled("max")
    crossing = RunningMean("lambda2", each_layer=False)
    crossing.layers = frozenset("a")
    with pytest.raises(ac.AttentionError, match="needs chains"):
        crossing.take("a", Shown(MAPS[0, ..., :4]))
