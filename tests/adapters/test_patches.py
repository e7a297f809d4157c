"""Patches that do not divide an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.patches import Patches, uneven


def seen(image: Tensor, kernel: int, **options: Any) -> dict[str, str]:
    patches, weight = Patches(), torch.ones(1, 1, kernel, kernel)
    patches.see(F.conv2d, (image, weight), options, F.conv2d(image, weight, **options))
    return patches.metadata


def test_a_rest_is_noted() -> None:
    image = torch.ones(1, 1, 83, 70)
    assert seen(image, 14, stride=14) == {"patches": "5×5 patches of 14×14 pixels in 83×70"}
    assert seen(image, 14, stride=(14, 14), padding="valid") == {"patches": "5×5 patches of 14×14 pixels in 83×70"}


@pytest.mark.parametrize("options", [{"stride": 7}, {"stride": 14, "padding": 2}, {}], ids=["overlap", "padded", "dense"])
def test_other_convolutions_cut_no_patches(options: Any) -> None:
    assert not seen(torch.ones(1, 1, 83, 70), 14, **options)


def test_patches_that_divide_an_image_are_not_noted() -> None:
    assert not seen(torch.ones(1, 1, 28, 70), 14, stride=14)
    assert not seen(torch.ones(1, 1, 28, 70), 1, stride=1)
    assert not uneven((2, 5), (14, 14), (28, 70))


def test_each_kind_of_patch_is_noted_once() -> None:
    patches, weight = Patches(), torch.ones(1, 1, 4, 4)
    for size in (9, 9, 10):
        image = torch.ones(1, 1, size, 8)
        patches.see(F.conv2d, (image, weight, None, 4), {}, F.conv2d(image, weight, None, 4))
    assert patches.metadata["patches"] == "2×2 patches of 4×4 pixels in 9×8; 2×2 patches of 4×4 pixels in 10×8"
