"""Partition scores beside scikit-learn and scikit-image."""

import pytest
import torch
from skimage.metrics import variation_of_information as of_skimage
from sklearn.metrics import rand_score

from attnchain_evals import rand_index, variation_of_information
from attnchain_interp import AttentionError


def test_beside_other_implementations() -> None:
    generator = torch.Generator().manual_seed(0)
    segments = torch.randint(0, 5, (9, 12), generator=generator)
    people = torch.randint(3, 7, (4, 9, 12), generator=generator)
    people[0] = 2 * segments + 1
    rand, information = rand_index(segments, people), variation_of_information(segments, people)
    assert rand[0] == 1
    assert information[0] == pytest.approx(0, abs=1e-12)
    for each, index, bits in zip(people, rand, information, strict=True):
        assert float(index) == pytest.approx(rand_score(each.flatten(), segments.flatten()))
        assert float(bits) == pytest.approx(of_skimage(each.numpy(), segments.numpy()).sum(), abs=1e-9)


def test_shapes() -> None:
    for score in (rand_index, variation_of_information):
        with pytest.raises(AttentionError, match=r"segments \(2, 2\) and segmentations \(1, 3, 2\) do not fit"):
            score(torch.zeros(2, 2), torch.zeros(1, 3, 2))
