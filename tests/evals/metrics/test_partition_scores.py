"""Partition scores beside their definitions, written out over pairs of pixels and counts."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log2

import numpy as np
import pytest
import torch

from attnchain_evals import covering, rand_index, variation_of_information
from attnchain_interp import AttentionError


def entropy(numbers: list[object]) -> float:
    return -sum(count / len(numbers) * log2(count / len(numbers)) for count in Counter(numbers).values())


def test_beside_the_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    segments = torch.randint(0, 5, (9, 12), generator=generator)
    people = torch.randint(3, 7, (4, 9, 12), generator=generator)
    people[0] = 2 * segments + 1
    rand, information = rand_index(segments, people), variation_of_information(segments, people)
    assert rand[0] == 1
    assert information[0] == pytest.approx(0, abs=1e-12)
    own = segments.flatten().tolist()
    for each, index, bits in zip(people.flatten(1).tolist(), rand, information, strict=True):
        alike = [(own[i] == own[j]) == (each[i] == each[j]) for i, j in combinations(range(len(own)), 2)]
        assert float(index) == pytest.approx(sum(alike) / len(alike))
        both = entropy(list(zip(own, each, strict=True)))
        assert float(bits) == pytest.approx(2 * both - entropy(own) - entropy(each), abs=1e-9)


def test_shapes() -> None:
    for score in (rand_index, variation_of_information):
        with pytest.raises(AttentionError, match=r"segments \(2, 2\) and segmentations \(1, 3, 2\) do not fit"):
            score(torch.zeros(2, 2), torch.zeros(1, 3, 2))


def written_out(segments: np.ndarray, regions: np.ndarray) -> float:
    total = 0.0
    for region in np.unique(regions):
        inside = regions == region
        ious = [(inside & (segments == s)).sum() / (inside | (segments == s)).sum() for s in np.unique(segments)]
        total += inside.sum() * max(ious)
    return total / regions.size


def test_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    segments, people = rng.integers(0, 4, (9, 7)) * 5, rng.integers(1, 6, (3, 9, 7))
    found = covering(torch.tensor(segments), torch.tensor(people))
    assert found.tolist() == pytest.approx([written_out(segments, regions) for regions in people])
    assert covering(torch.tensor(segments), torch.tensor(segments)[None] + 3).tolist() == [1.0], "numbers mean nothing"


def test_by_hand() -> None:
    """The whole image as one segment covers two halves by a half each."""
    halves = (torch.arange(4) < 2).long().expand(1, 2, 4)
    assert covering(torch.zeros(2, 4, dtype=torch.long), halves).tolist() == [0.5]


def test_shapes_are_checked() -> None:
    with pytest.raises(AttentionError, match=r"segments \(2, 4\) and segmentations \(1, 4, 2\) do not fit"):
        covering(torch.zeros(2, 4), torch.zeros(1, 4, 2))
