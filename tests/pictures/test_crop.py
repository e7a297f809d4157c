"""The part of a photograph that a preprocessing keeps, found by ramps of brightness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, hflip, normalize, pad, pil_to_tensor, resize

from attnchain_interp import pictures
from attnchain_interp.pictures.crop import cropped, is_whole


def prepared(image: Any, *steps: Callable[[Tensor], Tensor]) -> Tensor:
    pixels = pil_to_tensor(image)[None] / 255
    for step in steps:
        pixels = step(pixels)
    return normalize(pixels, [0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize(
    ("size", "steps", "part"),
    [
        ((90, 60), [], (0, 0, 90, 60)),
        ((90, 60), [lambda x: resize(x, [56, 56])], (0, 0, 90, 60)),
        (
            (90, 60),
            [lambda x: resize(x, [32], antialias=True), lambda x: center_crop(x, [28, 28])],
            (18.75, 3.75, 71.25, 56.25),
        ),
        ((4000, 2000), [lambda x: resize(x, [64]), lambda x: x[..., :64, :64]], (0, 0, 2000, 2000)),
        ((1, 60), [], (0, 0, 1, 60)),
    ],
)
def test_the_part_that_is_kept(size: tuple[int, int], steps: list[Any], part: tuple[float, ...]) -> None:
    found = pictures.read_part(lambda image: prepared(image, *steps), *size)
    assert found is not None
    assert np.allclose(found, part, atol=0.01 * max(size))


@pytest.mark.parametrize("step", [hflip, lambda x: pad(x, [30, 0, 30, 0]), lambda x: x.mT])
def test_other_preprocessings_are_not_known(step: Callable[[Tensor], Tensor]) -> None:
    assert pictures.read_part(lambda image: prepared(image, step), 90, 60) is None


def test_a_part_in_words() -> None:
    picture = np.asarray(Image.new("RGB", (80, 60)), dtype=np.float64)
    assert cropped(picture, (20, 0, 60, 60)) == "The model read the framed part, 50% of the image."
    assert is_whole(picture, (0.4, 0, 79.5, 60))
    assert not is_whole(picture, (20, 0, 60, 60))
