"""Segmentation without words: what the self-attention of a diffusion model says of the digit in an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, cached_property
from typing import Any, Final, Literal, NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import NO_CLASS
from attnchain_evals.metrics.segment_matching import above, acc_and_miou, counts, matched
from attnchain_evals.tasks.textured_digits import Example
from attnchain_interp import AttentionError, AttentionStore, diffusion

GRIDS: Final = ((16, 16), (8, 8))
THRESHOLDS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # times the mean of a map
DIVERGENCES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.1)  # below which DiffSeg merges
ANCHOR_SIDE: Final = 4
BRIGHTNESS: Final = "brightness, no model"
CEILING: Final = "the mask itself on 16 × 16"

Method = Callable[["Scene"], Tensor]


class Reading(NamedTuple):
    """How attention is read: the timestep that images are noised to, the resolutions that are joined, the weights of heads."""

    timestep: int
    grids: tuple[tuple[int, int], ...]
    heads: Literal["mean", "lambda2"]

    def __str__(self) -> str:
        return (
            f"t = {self.timestep}, {' and '.join(f'{rows} × {columns}' for rows, columns in self.grids)}, heads {self.heads}"
        )


READINGS: Final = tuple(
    Reading(timestep, grids, heads)
    for timestep in (50, 150, 300)
    for grids in (GRIDS[:1], GRIDS)
    for heads in ("mean", "lambda2")
)


class Choice(NamedTuple):
    """The reading and the settings of a method, and the mean IoU on the images that they were chosen on."""

    reading: Reading
    setting: str
    miou: float


@final
class Scene:
    """Images and their attention by one reading, and what several methods need of it.

    Args:
        pipe: the diffusion model.
        batch: images with masks.
        reading: how their attention is read.
        seed: of the noise.
    """

    def __init__(self, pipe: Any, batch: Example, reading: Reading, seed: int = 0) -> None:
        self.batch = batch
        self.store = attention_of(pipe, batch.image, reading, seed)
        self.chain = self.store.chain()
        self.rank = ac.stationary(self.chain)
        self.reversed_rank = ac.stationary(ac.reverse(self.chain))

    @cached_property
    def point(self) -> Tensor:
        """(batch, token): 1 at the point that a user would click on."""
        return F.one_hot(points(self.batch.mask), GRIDS[0][0] * GRIDS[0][1]).float()

    def grid(self, tokens: Tensor) -> Tensor:
        """Values (batch, token) as (batch, 16, 16)."""
        return self.store.tokens.to_grid(tokens)


def attention_of(pipe: Any, images: Tensor, reading: Reading, seed: int = 0) -> AttentionStore:
    """The self-attention of images, noised and denoised once without a class: one chain on 16 × 16 tokens."""
    labels = torch.full((len(images),), NO_CLASS)
    noise = torch.Generator().manual_seed(seed)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(diffusion.capture_pipeline(pipe, grid=grid, heads=reading.heads)) for grid in reading.grids
        ]
        diffusion.denoise_image(pipe, images, timestep=reading.timestep, generator=noise, class_labels=labels)
    return diffusion.aggregated_attention([run.store for run in runs])


def points(masks: Tensor) -> Tensor:
    """The token (batch,) whose patch each mask covers most."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), GRIDS[0]).flatten(1).argmax(1)


def diff_seg(anchors: str, divergence: float) -> Method:
    """DiffSeg from as many "uniform" or "TokenRank" anchors, matched with object and background."""

    def segments(scene: Scene) -> Tensor:
        chosen = (
            diffusion.ranked_anchors(scene.rank, ANCHOR_SIDE**2)
            if anchors == "TokenRank"
            else diffusion.uniform_anchors(GRIDS[0], ANCHOR_SIDE)
        )
        return matched(scene.grid(diffusion.diff_seg(scene.chain, chosen, divergence)), scene.batch.mask)

    return segments


def metastable(scene: Scene) -> Tensor:
    """The two sets of tokens that the walk rarely leaves, matched with object and background."""
    states = torch.stack([_two_states(matrix) for matrix in scene.chain.matrix])
    return matched(scene.grid(states), scene.batch.mask)


def _two_states(matrix: Tensor) -> Tensor:
    """The state (token,) that each token belongs to most; of three, where two would split a complex pair of eigenvalues."""
    try:
        return ac.metastable_states(matrix, k=2).argmax(-1)
    except AttentionError:
        return ac.metastable_states(matrix, k=3).argmax(-1)


def cut(scores: Callable[[Scene], Tensor], threshold: float, front: bool = True) -> Method:
    """Where scores (batch, token) are above a multiple of their mean; the rest where that is not the front."""

    def region(scene: Scene) -> Tensor:
        inside = above(scene.grid(scores(scene)), threshold, scene.batch.mask)
        return inside if front else 1 - inside

    return region


def bounced(steps: int) -> Callable[[Scene], Tensor]:
    return lambda scene: ac.bounce(scene.chain, scene.point, steps)


def brightness(threshold: float) -> Method:
    return lambda scene: above(scene.batch.image[:, 0], threshold, scene.batch.mask)


def ceiling(scene: Scene) -> Tensor:
    """The most that segments of 16 × 16 patches can reach, or nearly."""
    coarse = F.adaptive_avg_pool2d(scene.batch.mask[:, None].float(), GRIDS[0])[:, 0] > 0.5
    return matched(coarse.long(), scene.batch.mask)


@cache
def methods() -> Mapping[str, Mapping[str, Method]]:
    """Method → settings → what it finds."""
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


def tuned(pipe: Any, batch: Example, readings: Sequence[Reading] = READINGS) -> dict[str, Choice]:
    """Method → the reading and settings of the best mean IoU on these images."""
    best: dict[str, Choice] = {}
    for reading in readings:
        scene = Scene(pipe, batch, reading)
        for name, settings in methods().items():
            for setting, method in settings.items():
                miou = float(acc_and_miou(counts(method(scene), batch.mask).mean(0))[1])
                if name not in best or miou > best[name].miou:
                    best[name] = Choice(reading, setting, miou)
    return best


def found(pipe: Any, batch: Example, chosen: Mapping[str, Choice]) -> dict[str, Tensor]:
    """Method → object (1), background (0) or neither (−1) in (batch, height, width), as chosen on other images."""
    scenes = {reading: Scene(pipe, batch, reading) for reading in {choice.reading for choice in chosen.values()}}
    return {name: methods()[name][choice.setting](scenes[choice.reading]) for name, choice in chosen.items()}
