from __future__ import annotations

import pytest
import torch

from attnchain_evals.metrics.segment_matching import above, acc_and_miou, counts, matched


def test_segments_are_matched_so_that_the_most_pixels_are_right() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, 1:3, 1:3] = True
    halves = torch.tensor([[[7, 7], [7, 3]]])  # enlarged: a quarter of the image is segment 3
    found = matched(halves, mask)
    assert found.tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]]
    assert matched(torch.arange(3)[None, None].repeat(1, 4, 1).repeat_interleave(2, 2)[..., :4], mask).unique().tolist() == [
        0,
        1,
    ]
    three = torch.tensor([[[0, 1, 1, 2]] * 4])
    assert matched(three, mask)[0, 0].tolist() in ([0, 1, 1, -1], [-1, 1, 1, 0])


def test_counts_are_those_of_the_pixels() -> None:
    mask = torch.tensor([[[True, True], [False, False]]])
    found = torch.tensor([[[1, -1], [1, 0]]])
    assert counts(found, mask).tolist() == [[0.5, 0.25, 0.5, 0.25, 0.75]]
    acc, miou = acc_and_miou(counts(found, mask).mean(0))
    assert (float(acc), float(miou)) == (0.5, pytest.approx((1 / 2 + 1 / 3) / 2))
    acc, miou = acc_and_miou(counts(mask.long(), mask).mean(0))
    assert (float(acc), float(miou)) == (1, 1)


def test_maps_are_cut_at_a_multiple_of_their_mean() -> None:
    maps, mask = torch.tensor([[[1.0, 3.0]]]), torch.zeros(1, 1, 2, dtype=torch.bool)
    assert above(maps, 1, mask).tolist() == [[[0, 1]]]
    assert above(maps, 0.4, mask).tolist() == [[[1, 1]]]
    assert above(maps, 2, mask).tolist() == [[[0, 0]]]
