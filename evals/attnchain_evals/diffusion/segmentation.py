"""Segmentation without words: what the self-attention of a diffusion model says of the digit in an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import NO_CLASS
from attnchain_evals.diffusion.digits import Example
from attnchain_evals.diffusion.segments import above, acc_and_miou, counts, matched
from attnchain_interp import AttentionStore

GRIDS: Final = ((16, 16), (8, 8))
TIMESTEPS: Final = (50, 150, 300)
THRESHOLDS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # times the mean of a map
DIVERGENCES: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.1)  # below which DiffSeg merges
ANCHOR_SIDE: Final = 4

Method = Callable[["Scene"], Tensor]


@final
class Scene:
    """Images at one timestep: their attention, and what several methods need of it.

    Args:
        pipe: the diffusion model.
        batch: images with masks.
        timestep: that the images are noised to.
        seed: of the noise.
    """

    def __init__(self, pipe: Any, batch: Example, timestep: int, seed: int = 0) -> None:
        self.batch = batch
        self.store = aggregated(pipe, batch.image, timestep, seed)
        self.chain = self.store.chain()
        self.rank = ac.stationary(self.chain)
        self.reversed_rank = ac.stationary(ac.reverse(self.chain))

    @cached_property
    def point(self) -> Tensor:
        """(batch, token): 1 at the patch that the mask covers most, what a user would click on."""
        covered = F.adaptive_avg_pool2d(self.batch.mask[:, None].float(), GRIDS[0]).flatten(1)
        return F.one_hot(covered.argmax(1), covered.shape[1]).float()

    def grid(self, tokens: Tensor) -> Tensor:
        """Values (batch, token) as (batch, 16, 16)."""
        return self.store.tokens.to_grid(tokens)


def aggregated(pipe: Any, images: Tensor, timestep: int, seed: int = 0) -> AttentionStore:
    """The self-attention of both resolutions as one chain on 16 × 16 tokens, of images noised to a timestep."""
    labels = torch.full((len(images),), NO_CLASS)
    with ac.capture_pipeline(pipe, grid=GRIDS[0]) as fine, ac.capture_pipeline(pipe, grid=GRIDS[1]) as coarse:
        ac.denoise_image(
            pipe, images, timestep=timestep, generator=torch.Generator().manual_seed(seed), class_labels=labels
        )
    return ac.aggregated_attention([fine.store, coarse.store])


def diff_seg(anchors: str, divergence: float) -> Method:
    def segments(scene: Scene) -> Tensor:
        chosen = (
            ac.ranked_anchors(scene.rank, ANCHOR_SIDE**2) if anchors == "TokenRank" else ac.uniform_anchors(GRIDS[0], ANCHOR_SIDE)
        )
        return matched(scene.grid(ac.diff_seg(scene.chain, chosen, divergence)), scene.batch.mask)

    return segments


def metastable(scene: Scene) -> Tensor:
    return matched(scene.grid(ac.metastable_states(scene.chain, k=2).argmax(-1)), scene.batch.mask)


def bounces(steps: int, threshold: float) -> Method:
    def region(scene: Scene) -> Tensor:
        return above(scene.grid(ac.bounce(scene.chain, scene.point, steps)), threshold, scene.batch.mask)

    return region


def ranked(direction: str, threshold: float, front: int) -> Method:
    def region(scene: Scene) -> Tensor:
        scores = scene.rank if direction == "incoming" else scene.reversed_rank
        found = above(scene.grid(scores), threshold, scene.batch.mask)
        return found if front else 1 - found

    return region


def column_sum(threshold: float, front: int) -> Method:
    def region(scene: Scene) -> Tensor:
        found = above(scene.grid(scene.chain.step(scene.chain.uniform)), threshold, scene.batch.mask)
        return found if front else 1 - found

    return region


def brightness(threshold: float) -> Method:
    return lambda scene: above(scene.batch.image[:, 0], threshold, scene.batch.mask)


def ceiling(scene: Scene) -> Tensor:
    coarse = F.adaptive_avg_pool2d(scene.batch.mask[:, None].float(), GRIDS[0])[:, 0] > 0.5
    return matched(coarse.long(), scene.batch.mask)


@cache
def methods() -> Mapping[str, Mapping[str, Method]]:
    """Method → settings → what it finds."""
    sides = {"above": 1, "below": 0}
    return {
        "DiffSeg, uniform anchors": {f"threshold {d:g}": diff_seg("uniform", d) for d in DIVERGENCES},
        "DiffSeg, TokenRank anchors": {f"threshold {d:g}": diff_seg("TokenRank", d) for d in DIVERGENCES},
        "two metastable states": {"": metastable},
        "multi-bounce from a point": {
            f"{n} steps, above {t:g}": bounces(n, t) for n in (1, 2, 3, 5) for t in THRESHOLDS
        },
        "TokenRank": {
            f"{direction}, {side} {t:g}": ranked(direction, t, front)
            for direction in ("incoming", "outgoing")
            for side, front in sides.items()
            for t in THRESHOLDS
        },
        "column sum": {f"{side} {t:g}": column_sum(t, front) for side, front in sides.items() for t in THRESHOLDS},
        "brightness (no model)": {f"above {t:g}": brightness(t) for t in THRESHOLDS},
        "the mask on 16 × 16 (ceiling)": {"": ceiling},
    }


def tuned(pipe: Any, batch: Example, timesteps: Sequence[int] = TIMESTEPS) -> dict[str, tuple[int, str, float]]:
    """Method → timestep and settings of the best mean IoU on these images, and the mean IoU."""
    best: dict[str, tuple[int, str, float]] = {}
    for timestep in timesteps:
        scene = Scene(pipe, batch, timestep)
        for name, settings in methods().items():
            for setting, method in settings.items():
                miou = float(acc_and_miou(counts(method(scene), batch.mask).mean(0))[1])
                if name not in best or miou > best[name][2]:
                    best[name] = timestep, setting, miou
    return best


def scored(pipe: Any, batch: Example, chosen: Mapping[str, tuple[int, str, float]]) -> dict[str, NDArray[np.float64]]:
    """Method → `counts` on these images, with the settings that were chosen on others."""
    scenes = {timestep: Scene(pipe, batch, timestep) for timestep in {timestep for timestep, _, _ in chosen.values()}}
    return {
        name: counts(methods()[name][setting](scenes[timestep]), batch.mask) for name, (timestep, setting, _) in chosen.items()
    }
