"""The control that knows the image alone."""

import pytest
import torch

from attnchain_evals import InputMagnitude


def test_the_control_has_the_shape_of_the_input() -> None:
    images = torch.rand(2, 3, 8, 8)
    scores = InputMagnitude((2, 2)).attribute(images)
    assert (scores.shape, scores.is_contiguous()) == (images.shape, True)
    expected = (images - images.mean((2, 3), keepdim=True)).abs()[0, :, :4, :4].mean()
    assert float(scores[0, 0, 0, 0]) == pytest.approx(float(expected))
