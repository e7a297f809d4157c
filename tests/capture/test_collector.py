"""The announcement of a forward, and the layers that do not fit it."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.capture.collector import Expected, told

TEXT = ac.TokenLayout.text(torch.ones(2, 5))


def test_the_size_of_all_maps() -> None:
    assert Expected(TEXT, 3, 4, False).map_bytes == 4 * 3 * 4 * 2 * 5 * 5
    assert Expected(TEXT, 3, 4, False, ac.TokenLayout.text(torch.ones(2, 2))).map_bytes == 4 * 3 * 4 * 2 * 2 * 5


def test_layers_come_once_and_attend_among_the_expected_tokens() -> None:
    expected = Expected(TEXT, 1, 1, False)
    expected.check_layer("a", torch.zeros(2, 1, 5, 5), ["b"])
    with pytest.raises(ac.AttentionError, match="'a' computed attention twice"):
        expected.check_layer("a", torch.zeros(2, 1, 5, 5), ["a"])
    with pytest.raises(ac.AttentionError, match="from 4 to 5 tokens in a batch of 2 .a cache of earlier keys"):
        expected.check_layer("a", torch.zeros(2, 1, 4, 5), [])
    with pytest.raises(ac.AttentionError, match=r"(?s)to 4 tokens.*Choose the layers that attend among"):
        expected.check_layer("a", torch.zeros(2, 1, 5, 4), [])
    with pytest.raises(ac.AttentionError, match=r"(?s)from 5 to 8 tokens.*without a cache.*P\[\.\.\., 3:\]"):
        expected.check_layer("a", torch.zeros(2, 1, 5, 8), [])


def test_attention_before_its_announcement() -> None:
    expected = Expected(TEXT, 1, 1, False)
    assert told(expected) is expected
    with pytest.raises(ac.AttentionError, match=r"(?s)before expect.*Call expect before the forward"):
        told(None)
