"""Segmentation without words: finds the digit of an image in the self-attention of the bundled diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, cached_property
from typing import Any, Final, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals.bench.tables import table
from attnchain_evals.bundled.diffusion_model import NO_CLASS
from attnchain_evals.metrics.segmentation_scores import above, acc_and_miou, counts, matched
from attnchain_evals.metrics.statistics import interval
from attnchain_evals.tasks.textured_digits import Example
from attnchain_evals.terminal import progress
from attnchain_interp import AttentionError, AttentionStore, diffusion

GRIDS: Final = ((16, 16), (8, 8))
THRESHOLDS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # times the mean of a map
DIVERGENCES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.1)  # below which DiffSeg merges
ANCHOR_SIDE: Final = 4
BRIGHTNESS: Final = "brightness, no model"
CEILING: Final = "the mask itself on 16 × 16"

Method = Callable[["Scene"], Tensor]


class SelfAttention(NamedTuple):
    """The self-attention that methods read: the timestep of the noise, the joined resolutions, the weights of heads."""

    timestep: int
    grids: tuple[tuple[int, int], ...]
    heads: Literal["mean", "lambda2"]

    def __str__(self) -> str:
        sizes = " and ".join(f"{rows} × {columns}" for rows, columns in self.grids)
        return f"t = {self.timestep}, {sizes}, heads {self.heads}"


CANDIDATES: Final = tuple(
    SelfAttention(timestep, grids, heads)
    for timestep in (50, 150, 300)
    for grids in (GRIDS[:1], GRIDS)
    for heads in ("mean", "lambda2")
)


class Choice(NamedTuple):
    """The chosen attention and setting of a method, and its mean IoU on the images that chose them."""

    attention: SelfAttention
    setting: str
    miou: float


class SegmentationStudy(NamedTuple):
    """The choice of each method on validation images, and its pixel counts (image, 5) on test images."""

    chosen: dict[str, Choice]
    counts: dict[str, NDArray[np.float64]]


@final
class Scene:
    """Images with their attention, and the values that several methods share."""

    def __init__(self, pipe: Any, batch: Example, attention: SelfAttention) -> None:
        self.batch = batch
        self.store = attention_of(pipe, batch.image, attention)
        self.chain = self.store.chain()
        self.rank = ac.stationary(self.chain)
        self.reversed_rank = ac.stationary(ac.reverse(self.chain))

    @cached_property
    def point(self) -> Tensor:
        """Returns (batch, token): 1 at the point that a user would click on."""
        return F.one_hot(points(self.batch.mask), GRIDS[0][0] * GRIDS[0][1]).float()

    def grid(self, tokens: Tensor) -> Tensor:
        """Returns values (batch, token) as (batch, 16, 16)."""
        return self.store.tokens.to_grid(tokens)


def attention_of(pipe: Any, images: Tensor, attention: SelfAttention) -> AttentionStore:
    """Returns one chain on 16 × 16 tokens for each image, noised and denoised once without a class."""
    labels = torch.full((len(images),), NO_CLASS)
    noise = torch.Generator().manual_seed(0)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(diffusion.capture_pipeline(pipe, grid=grid, heads=attention.heads)) for grid in attention.grids
        ]
        diffusion.denoise_image(pipe, images, timestep=attention.timestep, generator=noise, class_labels=labels)
    return diffusion.aggregated_attention([run.store for run in runs])


def points(masks: Tensor) -> Tensor:
    """Returns the token (batch,) whose patch each mask covers most."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), GRIDS[0]).flatten(1).argmax(1)


def diff_seg(anchors: str, divergence: float) -> Method:
    """Returns DiffSeg from "uniform" or "TokenRank" anchors, matched with object and background."""

    def segments(scene: Scene) -> Tensor:
        chosen = (
            diffusion.ranked_anchors(scene.rank, ANCHOR_SIDE**2)
            if anchors == "TokenRank"
            else diffusion.uniform_anchors(GRIDS[0], ANCHOR_SIDE)
        )
        return matched(scene.grid(diffusion.diff_seg(scene.chain, chosen, threshold=divergence)), scene.batch.mask)

    return segments


def metastable(scene: Scene) -> Tensor:
    """Returns the two sets of tokens that the walk rarely leaves, matched with object and background."""
    states = torch.stack([_two_states(matrix) for matrix in scene.chain.matrix])
    return matched(scene.grid(states), scene.batch.mask)


def _two_states(matrix: Tensor) -> Tensor:
    """Returns the most likely state (token,): one of two, or of three where two would split a complex pair of eigenvalues."""
    try:
        return ac.metastable_states(matrix, k=2).argmax(-1)
    except AttentionError:
        return ac.metastable_states(matrix, k=3).argmax(-1)


def cut(scores: Callable[[Scene], Tensor], threshold: float, front: bool = True) -> Method:
    """Returns a method: scores (batch, token) above a multiple of their mean are the object (background if not `front`)."""

    def region(scene: Scene) -> Tensor:
        inside = above(scene.grid(scores(scene)), threshold, scene.batch.mask)
        return inside if front else 1 - inside

    return region


def bounced(steps: int) -> Callable[[Scene], Tensor]:
    return lambda scene: ac.bounce(scene.chain, scene.point, steps)


def brightness(threshold: float) -> Method:
    return lambda scene: above(scene.batch.image[:, 0], threshold, scene.batch.mask)


def ceiling(scene: Scene) -> Tensor:
    """Returns the mask on 16 × 16 patches: about the best that segments of patches can reach."""
    coarse = F.adaptive_avg_pool2d(scene.batch.mask[:, None].float(), GRIDS[0])[:, 0] > 0.5
    return matched(coarse.long(), scene.batch.mask)


@cache
def methods() -> Mapping[str, Mapping[str, Method]]:
    """Returns method → setting → the function that segments a scene."""
    cuts = [(f"{'above' if front else 'below'} {t:g}", t, front) for front in (True, False) for t in THRESHOLDS]
    ranks = {"incoming": lambda scene: scene.rank, "outgoing": lambda scene: scene.reversed_rank}
    return {
        "DiffSeg, uniform anchors": {f"threshold {d:g}": diff_seg("uniform", d) for d in DIVERGENCES},
        "DiffSeg, TokenRank anchors": {f"threshold {d:g}": diff_seg("TokenRank", d) for d in DIVERGENCES},
        "two metastable states": {"": metastable},
        "multi-bounce from a point": {
            f"{n} {'steps' if n > 1 else 'step'}, above {t:g}": cut(bounced(n), t) for n in (1, 2, 3, 5) for t in THRESHOLDS
        },
        "TokenRank": {
            f"{direction}, {name}": cut(scores, t, front) for direction, scores in ranks.items() for name, t, front in cuts
        },
        "column sum": {name: cut(lambda scene: scene.chain.step(scene.chain.uniform), t, front) for name, t, front in cuts},
        BRIGHTNESS: {f"above {t:g}": brightness(t) for t in THRESHOLDS},
        CEILING: {"": ceiling},
    }


def study_segmentation(
    pipe: Any, validation: Example, test: Example, candidates: Sequence[SelfAttention] = CANDIDATES
) -> SegmentationStudy:
    """Tunes every method on validation images and counts its pixels on test images."""
    chosen = tune(pipe, validation, candidates)
    regions = segment(pipe, test, chosen)
    return SegmentationStudy(chosen, {name: counts(region, test.mask) for name, region in regions.items()})


def tune(pipe: Any, batch: Example, candidates: Sequence[SelfAttention] = CANDIDATES) -> dict[str, Choice]:
    """Returns method → the attention and setting of the best mean IoU on these images."""
    best: dict[str, Choice] = {}
    for attention in progress(candidates, "settings of segmentation"):
        scene = Scene(pipe, batch, attention)
        for name, settings in methods().items():
            for setting, method in settings.items():
                miou = float(acc_and_miou(counts(method(scene), batch.mask).mean(0))[1])
                if name not in best or miou > best[name].miou:
                    best[name] = Choice(attention, setting, miou)
    return best


def segment(pipe: Any, batch: Example, chosen: Mapping[str, Choice]) -> dict[str, Tensor]:
    """Returns method → object (1), background (0) or neither (−1), (batch, height, width), by the given choices."""
    scenes = {attention: Scene(pipe, batch, attention) for attention in {choice.attention for choice in chosen.values()}}
    return {name: methods()[name][choice.setting](scenes[choice.attention]) for name, choice in chosen.items()}


def segmentation_table(study: SegmentationStudy) -> str:
    """Returns a Markdown table: accuracy, mean IoU and its paired difference from DiffSeg as published, by method."""
    base = study.counts["DiffSeg, uniform anchors"]

    def miou(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return acc_and_miou(means)[1]

    rows = []
    for name, own in study.counts.items():
        both = np.concatenate([own, base], 1)
        difference = "" if own is base else str(interval(lambda means: miou(means[:5]) - miou(means[5:]), both))
        choice = study.chosen[name]
        acc = interval(lambda means: acc_and_miou(means)[0], own)
        read = [] if name in (BRIGHTNESS, CEILING) else [str(choice.attention)]
        told = ", ".join(filter(None, [*read, choice.setting]))
        rows.append([name, str(acc), str(interval(miou, own)), difference, told])
    head = ["method", "accuracy ↑", "mean IoU ↑", "mean IoU − DiffSeg, uniform", "chosen on validation images"]
    return table(head, rows) + "\n"
