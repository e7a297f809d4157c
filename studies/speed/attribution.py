"""Rows of `attribute`: what a method costs beyond the passes through the model that it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

import attnchain_interp as ac
from studies.speed.measurement import paired
from studies.speed.rows import Figure, Row

BATCH: Final = 4


@cache
def vit() -> tuple[nn.Module, Tensor, Tensor]:
    """A timm ViT-B/16 nobody trained, whose parameters need no gradient; images of 197 tokens; a class for each."""
    from timm.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer().eval().requires_grad_(False)
    return model, torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH)


@torch.no_grad()
def forward(model: Any, images: Tensor, classes: Tensor) -> Tensor:
    """The logits, by fused attention."""
    return model(images)


def forward_and_backward(model: Any, images: Tensor, classes: Tensor) -> Tensor:
    """The gradient of each image, by fused attention: what Captum's `Saliency` computes."""
    images = images.clone().requires_grad_()
    return torch.autograd.grad(model(images).gather(1, classes[:, None]).sum(), images)[0]


def against(passes: Callable[..., Any], bar: float, *methods: Callable[..., Any]) -> list[Figure]:
    """The time of `attribute` of each method, that of the bare passes being 1."""
    model, images, classes = vit()

    def figure(build: Callable[..., Any]) -> Figure:
        method = build(model)
        times = paired(lambda: method.attribute(images, classes), lambda: passes(model, images, classes), 3)
        return times.times_as_long(f"time of {build.__name__}, the bare passes = 1", bar)

    return [figure(build) for build in methods]


_OF = f"{BATCH} images of 197 tokens, a timm ViT-B/16"
ROWS: Final = [
    Row(
        "attribute",
        f"`attribute` of methods that read attention alone, against one forward under no_grad: {_OF}",
        lambda: against(forward, 1.5, ac.TokenRank, ac.MultiBounce, ac.Rollout),
    ),
    Row(
        "attribute-gradient",
        f"`attribute` of class-specific methods, against one forward and one backward to the images: {_OF}",
        lambda: against(forward_and_backward, 1.3, ac.GradientAttention, ac.GradientTokenRank, ac.ExpectedVisits, ac.LeGrad),
    ),
]
