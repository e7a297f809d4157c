"""Samples of the bundled diffusion model under self-attention guidance."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import CLASSES

LAYER: Final = "mid_block.attentions.0"  # the attention of the middle block, as published
GRID: Final = (8, 8)
TITLES: Final = {"none": "none", "column-sum": "column sum", "token-rank": "TokenRank", "random": "random"}


class Guidance(NamedTuple):
    """The importance that chooses the blurred tokens ("none" or those of `self_attention_guidance`), and the scale."""

    importance: str
    scale: float

    def __str__(self) -> str:
        return TITLES[self.importance] + (f", scale {self.scale:g}" if self.scale else "")


NONE: Final = Guidance("none", 0.0)
IMPORTANCES: Final = tuple(name for name in TITLES if name != NONE.importance)


def sample(pipe: Any, guidance: Guidance, images: int, seed: int, steps: int, classes: bool) -> tuple[Tensor, Tensor | None]:
    """Returns images (image, 1, 32, 32) and the requested classes: each digit equally often, or None without classes.

    The noise depends on the seed alone, so guidances are paired image by image.
    """
    labels = torch.arange(images) % CLASSES if classes else None
    context = nullcontext()
    if guidance.importance != NONE.importance:
        options: Any = {"scale": guidance.scale, "importance": guidance.importance}
        random = torch.Generator().manual_seed(seed)
        context = ac.diffusion.self_attention_guidance(pipe, layers=LAYER, grid=GRID, generator=random, **options)
    with context:
        noise = torch.Generator().manual_seed(seed)
        return pipe(labels, batch_size=images, num_inference_steps=steps, generator=noise).images, labels
