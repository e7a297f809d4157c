"""Attributions of models that leave a rest of the image unread, or add pixels to it: each patch lies where it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp.attribution import AttnLRP, IntegratedGradients, LeaveOneOut


class Own(nn.Module):
    """An own model of patches of 14 × 14, of any size, without positions."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 32, 14, 14)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.cut(images).flatten(2).mT
        return self.head((tokens + self.attend(tokens, tokens, tokens)[0]).mean(1))


def dinov2() -> Any:
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 70, "patch_size": 14}
    return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**sizes, num_labels=3))  # type: ignore[arg-type]


def padding() -> Any:
    options: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 3}
    return timm.models.VisionTransformer(**options, dynamic_img_size=True, dynamic_img_pad=True)


def cropped(images: Tensor) -> Tensor:
    return images[..., :70, :84]


def enlarged(images: Tensor) -> Tensor:
    return F.pad(images, (0, 6, 0, 13))


CASES = [
    (dinov2, cropped, None),
    (Own, cropped, ac.Reading(tokens=ac.TokenLayout.image(grid=(5, 6)))),
    (padding, enlarged, None),
]


@pytest.fixture(params=CASES, ids=["transformers", "own", "timm"])
def case(request: pytest.FixtureRequest) -> tuple[Any, Callable[[Tensor], Tensor], ac.Reading | None, Tensor]:
    make, whole, reading = request.param
    torch.manual_seed(0)
    return make().double().eval(), whole, reading, torch.randn(1, 3, 83, 90).double()


def test_pixels_have_the_score_of_the_patch_that_reads_them(case: Any) -> None:
    model, whole, reading, images = case
    found = ac.TokenRank(model).attribute(images, reading=reading)
    expected = ac.TokenRank(model).attribute(whole(images), reading=reading)
    height, width = (min(a, b) for a, b in zip(images.shape[2:], expected.shape[2:], strict=True))
    assert torch.equal(found[..., :height, :width], expected[..., :height, :width])
    assert not found[..., height:, :].any()
    assert not found[..., width:].any()


@pytest.mark.parametrize("method", [AttnLRP, IntegratedGradients])
def test_the_pixels_of_a_patch_are_summed(case: Any, method: Any) -> None:
    """A rest that is not read has no gradient. The mean colour of a padded image is another, so AttnLRP alone is the same."""
    model, whole, reading, images = case
    grid = method(model).attribute(images, 1, output="grid", reading=reading)
    pixels = method(model).attribute(images, 1, reading=reading)
    patch = 16 if whole is enlarged else 14
    assert torch.equal(pixels[:, 0, ::patch, ::patch][:, :5, :6], grid[:, :5])
    if method is AttnLRP:
        assert torch.allclose(grid, method(model).attribute(whole(images), 1, output="grid", reading=reading))


def test_a_patch_is_removed_where_it_lies(case: Any) -> None:
    model, whole, reading, images = case
    patch = 16 if whole is enlarged else 14
    changed = images.clone()
    changed[..., 4 * patch : 5 * patch, 5 * patch : 6 * patch] = images.mean((2, 3), keepdim=True)
    with torch.no_grad():
        outputs = [model(each) for each in (images, changed)]
    before, after = (getattr(each, "logits", each)[0, 1] for each in outputs)
    found = LeaveOneOut(model, score="logit").attribute(images, 1, output="grid", reading=reading)
    assert torch.isclose(found[0, 4, 5], before - after)
    assert float((before - after).abs()) > 1e-6
