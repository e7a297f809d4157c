from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals import Protocol, perturbation_curve
from attnchain_evals.perturbation.occlusion import (
    NAMED,
    Black,
    Blur,
    KernelBlur,
    MeanColour,
    Occlusion,
    Replacement,
    ReplaceWith,
    Zero,
    occlusion_named,
)
from attnchain_interp import AttentionError


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_normalisation_of_black_may_come_in_any_sequence(kind: Any) -> None:
    assert Black(kind([0.5] * 3), kind([0.25] * 3)) == Black((0.5,) * 3, (0.25,) * 3)
    assert hash(Black(kind([0.5] * 3), kind([0.25] * 3))) == hash(Black((0.5,) * 3, (0.25,) * 3))
    for wrong in (0.5, None, "abc"):
        with pytest.raises(AttentionError, match="mean is .*; it is a sequence of numbers, one per channel"):
            Black(wrong, kind([0.25] * 3))  # type: ignore[arg-type]


def test_black_is_zero_before_normalisation_and_zero_after(images: Tensor) -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    black = Black((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))(images)
    assert torch.allclose(black * std[:, None, None] + mean[:, None, None], torch.zeros(1), atol=1e-6)
    assert torch.equal(Zero()(images), torch.zeros_like(images))
    with pytest.raises(ac.AttentionError, match="std above 0"):
        Black((0.0,) * 3, (1.0, 0.0, 1.0))(images)


def test_the_kernel_of_rise(images: Tensor) -> None:
    weights = np.zeros(11)
    for place in range(-33, 44):  # a Gaussian round pixel 5, of σ 5 and cut at 4σ, folded back at the edges
        if abs(place - 5) <= 20:
            folded = place % 22
            weights[folded if folded < 11 else 21 - folded] += np.exp(-((place - 5) ** 2) / 50)
    kernel = torch.from_numpy(np.outer(weights, weights) / weights.sum() ** 2).float()
    expected = F.conv2d(images.flatten(0, 1)[:, None], kernel[None, None], padding=5).view_as(images)
    assert torch.allclose(KernelBlur(11, 5.0)(images), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(KernelBlur(11, 5.0)(images), expected, atol=1e-5)
    with pytest.raises(ac.AttentionError, match="size=10 is even"):
        KernelBlur(10)(images)


def test_occlusions() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean = MeanColour()(images)
    assert mean.shape == images.shape
    assert torch.allclose(mean[1, 2], images[1, 2].mean())
    blurred = Blur(2.0)(images)
    assert float(blurred.std()) < float(images.std()) / 2
    assert torch.allclose(Blur()(torch.ones(1, 3, 16, 16)), torch.ones(1, 3, 16, 16))
    assert torch.equal(Blur()(images), Blur(2.0)(images)), "an eighth of the side"
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(Blur()(images.to(dtype)), Blur()(images.to(dtype).float()).to(dtype))
    dot = torch.zeros(1, 1, 15, 15)
    dot[0, 0, 7, 7] = 1
    kernel = torch.exp(-((torch.arange(15) - 7.0) ** 2) / 2)
    assert torch.allclose(Blur(1.0)(dot)[0, 0], torch.outer(kernel, kernel) / kernel.sum() ** 2, atol=1e-4)


def test_an_occlusion_is_found_by_its_name() -> None:
    assert all(occlusion_named(name) is occlusion and occlusion.name == name for name, occlusion in NAMED.items())
    assert {axis for occlusion in NAMED.values() for axis in occlusion.axes} == {2, 4}
    blur = Blur(2.0)
    assert occlusion_named(blur) is blur
    with pytest.raises(AttentionError, match="(?s)occlusion='fog' is unknown.*Use 'mean'"):
        occlusion_named("fog")
    with pytest.raises(AttentionError, match="(?s)occlusion is the class Blur.*Make one of it"):
        occlusion_named(Blur)  # type: ignore[arg-type]


def test_a_function_is_an_occlusion() -> None:
    found = occlusion_named(torch.zeros_like)
    assert isinstance(found, ReplaceWith)
    assert not found(torch.ones(1, 3, 2, 2)).any()


@pytest.mark.parametrize("made", [Tensor.mean, lambda images: images[:1], lambda images: images[0], lambda images: 0])
def test_a_function_that_gives_no_replacement_of_each_image_is_refused(images: Tensor, made: Any) -> None:
    model = lambda images: images.mean((2, 3))  # noqa: E731
    with pytest.raises(AttentionError, match=r"(?s)the occlusion .* gives .* for inputs \(2, 3, 12, 12\).*of their shape"):
        perturbation_curve(model, images, torch.rand(2, 4, 4), 0, occlusion=made, fractions=2)


def test_an_occlusion_needs_a_view() -> None:
    with pytest.raises(TypeError, match="over"):
        type("Half", (Occlusion,), {})()
    assert MeanColour() == MeanColour()


def test_an_occlusion_whose_class_has_no_hash_is_refused() -> None:
    @dataclass
    class Fog(Replacement):
        level: float = 0.5

        def __call__(self, images: Tensor) -> Tensor:
            return torch.full_like(images, self.level)

    with pytest.raises(AttentionError, match=r"(?s)Fog, which has no hash.*@dataclass\(frozen=True\)"):
        Protocol(Fog())
