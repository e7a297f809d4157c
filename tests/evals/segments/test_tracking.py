"""Regions keep their numbers from frame to frame."""

from dataclasses import replace

import numpy as np

from attnchain_evals.segments import Segments
from attnchain_evals.segments.tracking import Tracker


def frame(order: list[int], edges: tuple[int, int] = (4, 8)) -> Segments:
    """Three stripes, numbered in an order."""
    stripe = np.searchsorted(edges, np.arange(12), side="right")
    stripe = np.broadcast_to(stripe, (6, 12))
    shares = np.stack([(stripe == each) for each in order]).astype(np.float32)
    labels = shares.argmax(0) + 1
    return Segments(np.zeros((6, 12, 3), np.uint8), labels, labels, shares, np.full(3, 1 / 3))


def test_numbers_follow_the_regions() -> None:
    tracker = Tracker()
    first = tracker.followed(frame([0, 1, 2]))
    assert first.labels[0, [0, 5, 11]].tolist() == [1, 2, 3]
    moved = tracker.followed(frame([2, 0, 1], (5, 9)))
    assert moved.labels[0, [0, 6, 11]].tolist() == [1, 2, 3]
    assert moved.facts["numbers"] == [3, 1, 2]


def test_a_new_region_has_a_new_number() -> None:
    tracker = Tracker()
    two = frame([0, 1, 2])
    shares = np.stack([two.memberships[0], two.memberships[1:].sum(0)])
    tracker.followed(replace(two, memberships=shares, labels=shares.argmax(0) + 1, unrefined=shares.argmax(0) + 1))
    assert sorted(tracker.followed(two).facts["numbers"]) == [1, 2, 3]
    assert sorted(tracker.followed(two).facts["numbers"]) == [1, 2, 3]
