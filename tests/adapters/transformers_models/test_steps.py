"""The rows of a generation's steps, put at their places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_adapters.transformers_models.steps import Steps
from attnchain_interp.capture import Shown


def rows(queries: int, keys: int, heads: int = 2) -> Tensor:
    return torch.ones(1, heads, queries, keys) / keys


def factors(keys: Tensor, queries: int, mask: Tensor | None = None) -> ac.Factors:
    causal = queries == keys.shape[2] > 1
    return ac.Factors(torch.randn(1, 2, queries, 4), keys, mask=mask, causal=causal)


def test_rows_of_a_window_stand_at_the_newest_keys_and_empty_places_are_cut() -> None:
    steps = Steps(2, square=True, writes=True)
    steps.slides = True
    steps.take("layer", Shown(torch.cat([rows(1, 1), torch.zeros(1, 2, 1, 4)], -1)))  # a static cache of five places
    steps.take("layer", Shown(rows(1, 2)))
    steps.take("layer", Shown(rows(1, 2)))
    shown = steps.whole("layer")
    found = shown.attention
    assert (shown.sink, shown.value_norms) == (False, None)
    assert isinstance(found, Tensor)
    assert torch.equal(found[0, 0], torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]))


@pytest.mark.parametrize("seen", [[(3, 3), (1, 4), (1, 5)], [(3, 8), (1, 8), (1, 8)], [(3, 3), (1, 3), (1, 3)]])
def test_value_norms_of_a_growing_a_static_and_a_sliding_cache(seen: list[tuple[int, int]]) -> None:
    """Two query heads share a key head. The cache is written in place, so that earlier steps see later values."""
    lengths, steps, read = torch.arange(1.0, 6), Steps(2, square=True, writes=True), 0
    steps.slides = seen[-1][1] == 3
    cache = torch.zeros(1, 1, 8)
    for queries, keys in seen:
        read += queries
        there = torch.zeros(keys)
        there[: min(read, keys)] = lengths[max(0, read - keys) : read]
        cache[..., :keys] = there
        maps = torch.zeros(1, 2, queries, keys)
        maps[..., 0] = 1
        steps.take("layer", Shown(maps, False, lambda keys=keys: cache[..., :keys].clone()))
    norms = steps.whole("layer").value_norms
    assert norms is not None
    assert torch.equal(norms(), lengths.expand(1, 2, 5))


def test_keys_that_a_cache_has_dropped() -> None:
    steps = Steps(2, square=True, writes=True)
    steps.take("layer", Shown(rows(3, 3)))
    with pytest.raises(
        ac.AttentionError, match=r"'layer' attends to 3 of the 4 tokens that were read\. The cache has dropped"
    ):
        steps.take("layer", Shown(rows(1, 3)))


def test_places_of_a_cache_that_are_empty() -> None:
    for empty in (rows(2, 5), ac.Factors(torch.randn(1, 2, 2, 4), torch.randn(1, 2, 5, 4))):
        with pytest.raises(ac.AttentionError, match=r"(?s)attends to places of its cache that hold no token.*default cache"):
            Steps(2, square=True, writes=True).take("layer", Shown(empty))


def test_keys_that_go_on_stay_factors() -> None:
    keys = torch.randn(1, 2, 4, 4)
    steps = Steps(2, square=True, writes=True)
    for read, new in ((2, 2), (3, 1), (4, 1)):
        steps.take("layer", Shown(factors(keys[:, :, :read], new)))
    found = steps.whole("layer").attention
    assert isinstance(found, ac.Factors)
    assert found.causal


@pytest.mark.parametrize("change", ["keys", "mask"])
def test_keys_and_masks_that_change_give_the_rows_of_each_step(change: str) -> None:
    keys, mask = torch.randn(1, 2, 3, 4), torch.ones(1, 1, 1, 3, dtype=torch.bool)
    steps = Steps(2, square=True, writes=True)
    first = factors(keys[:, :, :2], 2, mask[..., :2])
    steps.take("layer", Shown(first))
    other = mask.clone()
    other[..., 0] = False
    second = factors(keys + 1 if change == "keys" else keys, 1, other if change == "mask" else mask)
    steps.take("layer", Shown(second))
    found = steps.whole("layer").attention
    assert isinstance(found, Tensor)
    assert torch.allclose(found[:, :, :2, :2], first.maps())
    assert torch.allclose(found[:, :, 2:], second.maps())


def test_cross_attention_has_the_same_keys_at_every_step() -> None:
    steps = Steps(2, square=False, writes=True)
    for new in (3, 1, 1):
        steps.take("layer", Shown(rows(new, 7)))
    assert steps.whole("layer").attention.shape == (1, 2, 5, 7)


def test_a_layer_of_an_encoder_may_repeat_itself() -> None:
    steps = Steps(2, square=True, writes=False)
    for _ in range(2):
        steps.take("layer", Shown(rows(3, 3)))
    found = steps.whole("layer").attention
    assert isinstance(found, Tensor)
    assert torch.equal(found, rows(3, 3))
    with pytest.raises(ac.AttentionError, match=r"(?s)for other inputs each time.*once for each input"):
        steps.take("layer", Shown(rows(4, 4)))


def test_a_text_that_is_read_again() -> None:
    steps = Steps(2, square=True, writes=True)
    steps.take("layer", Shown(rows(3, 3)))
    steps.restart()
    steps.take("layer", Shown(rows(4, 4)))
    assert steps.whole("layer").attention.shape[-2:] == (4, 4)
    assert steps.batch == 1
