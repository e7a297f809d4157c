"""Samples of a diffusion model under self-attention guidance, and what the guidance makes of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import CLASSES
from attnchain_evals.metrics.statistics import Score
from attnchain_evals.reproduce.sample_scores import SampleScores
from attnchain_interp import AttentionError

LAYER: Final = "mid_block.attentions.0"  # as published: the attention of the middle block
GRID: Final = (8, 8)
TITLES: Final = {"none": "none", "column-sum": "column sum", "token-rank": "TokenRank", "random": "random"}


class Guidance(NamedTuple):
    """Which tokens are blurred ("none", "column-sum", "token-rank" or "random"), and the scale of the guidance."""

    importance: str
    scale: float

    def __str__(self) -> str:
        return TITLES[self.importance] + (f", scale {self.scale:g}" if self.scale else "")


NONE: Final = Guidance("none", 0.0)


def sample(pipe: Any, guidance: Guidance, images: int, seed: int, steps: int, classes: bool) -> tuple[Tensor, Tensor | None]:
    """Images (image, 1, 32, 32), and the classes asked for: each digit as often, or None without classes.

    The noise depends on the seed alone, so that guidances are paired image by image.
    """
    labels = torch.arange(images) % CLASSES if classes else None
    context = nullcontext()
    if guidance.importance != "none":
        options: Any = {"scale": guidance.scale, "importance": guidance.importance}
        random = torch.Generator().manual_seed(seed)
        context = ac.diffusion.self_attention_guidance(pipe, layers=LAYER, grid=GRID, generator=random, **options)
    with context:
        noise = torch.Generator().manual_seed(seed)
        return pipe(labels, batch_size=images, num_inference_steps=steps, generator=noise).images, labels


def guidance_scores(
    pipe: Any, guidance: Guidance, scores: SampleScores, images: int, seeds: Sequence[int], steps: int, classes: bool
) -> NDArray[np.float64]:
    """(seed, score): the columns of `SampleScore`, of `images` samples for each seed."""
    found = [scores(*sample(pipe, guidance, images, seed, steps, classes)) for seed in seeds]
    return np.array(found, dtype=np.float64)


def over_seeds(values: NDArray[np.float64]) -> Score:
    """The mean of values (seed,), with its 95 % interval by Student's t.

    Raises:
        AttentionError: fewer than two seeds.
    """
    if len(values) < 2:
        raise AttentionError(f"an interval needs at least two seeds; there are {len(values)}.")
    mean = float(values.mean())
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Score(mean, mean - half, mean + half)
