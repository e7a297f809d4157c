"""The contract of controls for images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnchain_evals.bench.image_control import ImageControl
from attnchain_interp import AttentionError


class Numbered(ImageControl):
    def cells(self, images: Tensor) -> Tensor:
        return torch.arange(4.0).view(1, 2, 2).expand(len(images), -1, -1)


def test_cells_are_given_as_a_grid_or_enlarged() -> None:
    images = torch.rand(3, 2, 8, 4)
    control = Numbered((2, 2))
    assert torch.equal(control.attribute(images, output="grid")[2], torch.tensor([[0.0, 1], [2, 3]]))
    pixels = control.attribute(images)
    assert (pixels.shape, pixels.is_contiguous()) == (images.shape, True)
    assert pixels[1, 1, 3, 2] == 1
    assert pixels[1, 0, 4, 1] == 2
    assert repr(control) == "Numbered(grid=(2, 2))"


def test_texts_are_refused() -> None:
    with pytest.raises(AttentionError, match="this control is of images"):
        Numbered((2, 2)).attribute(torch.ones(2, 7).long())
    with pytest.raises(AttentionError, match="output is 'tokens'"):
        Numbered((2, 2)).attribute(torch.rand(1, 3, 8, 8), output="tokens")
