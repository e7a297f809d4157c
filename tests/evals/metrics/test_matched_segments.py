"""Segments matched with classes, beside the same counted by hand."""

from itertools import permutations

import pytest
import torch

from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.metrics.matched_segments import MatchedAccuracy, MatchedIoU, PanopticCovering, matched_counts
from attnchain_interp import AttentionError


def trial(classes: torch.Tensor, segments: torch.Tensor) -> Trial:
    return Trial(lambda images: images, torch.zeros(1, 3, *classes.shape), None, torch.stack([classes, segments])[None])


def test_the_best_of_all_matchings() -> None:
    generator = torch.Generator().manual_seed(0)
    for most in (2, 3, 5):
        segments = torch.randint(0, most, (6, 7), generator=generator) * 3
        classes = torch.randint(-1, 3, (6, 7), generator=generator)
        found = matched_counts(segments, classes, 3)
        numbers = [*segments.unique().tolist(), -5, -6, -7]  # and segments without pixels
        best = max(
            sum(((segments == own) & (classes == number)).sum() for number, own in enumerate(chosen))
            for chosen in permutations(numbers, 3)
        )
        assert found[0].sum() == best
        assert (found[0] + found[2]).tolist() == [(classes == number).sum() for number in range(3)]


def test_what_is_left_over_is_missed_once_and_extra_pixels_count() -> None:
    """Two segments on class 0: the greater is right, the lesser is missed; class 1 has a segment that reaches too far."""
    segments = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2]])
    classes = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    right, extra, lacking = matched_counts(segments, classes, 2)
    assert (right.tolist(), extra.tolist(), lacking.tolist()) == ([3, 3], [0, 1], [2, 0])


def test_a_class_beyond_their_number_is_refused() -> None:
    segments, classes = torch.zeros(1, 3), torch.tensor([[0, -1, 2]])
    with pytest.raises(AttentionError, match=r"holds the number 2, and of 2 classes the greatest is 1\.\nGive .* at least 3"):
        matched_counts(segments, classes, 2)
    with pytest.raises(AttentionError, match="holds the number 2"):
        MatchedIoU(2).measure(trial(classes, classes), segments[None])
    assert matched_counts(segments, classes, 3)[2].tolist() == [0, 0, 1]


def test_pooled_over_images() -> None:
    parts = torch.tensor([[0, 0, 1, 1]])
    one, other = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[-1, 0, 1, 1]])
    for metric, expected in (
        (MatchedIoU(3), ((2 + 1) / (3 + 1) + (1 + 2) / (2 + 2)) / 2),  # the third class is in no image
        (MatchedAccuracy(3), (3 + 3) / (4 + 3)),
        (PanopticCovering(), ((3 / 4 * 2 / 3 + 1 / 4 * 1 / 2) + 1) / 2),
    ):
        for classes in (one, other):
            metric.update(trial(classes, classes), parts[None])
        assert float(metric.compute()) == pytest.approx(expected)


def test_a_trial_without_classes_is_refused() -> None:
    bare = Trial(lambda images: images, torch.zeros(1, 3, 1, 4), None)
    with pytest.raises(AttentionError, match="miou needs the classes and segments"):
        MatchedIoU(2).update(bare, torch.zeros(1, 1, 4))


def test_an_image_that_nobody_labelled_counts_nowhere() -> None:
    parts, classes = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]])
    for metric in (MatchedIoU(2), MatchedAccuracy(2), PanopticCovering()):
        metric.update(trial(classes, classes), parts[None])
        expected = metric.compute()
        metric.update(trial(torch.full((1, 4), -1), torch.full((1, 4), -1)), parts[None])
        assert float(metric.compute()) == pytest.approx(float(expected))
    assert int(metric.undefined) == 1
