"""Rows of deletion and insertion, against bare forwards of exactly as many images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from attnchain_evals import ClutteredDigits, bundled_vit, perturbation_curve
from studies.speed.measurement import paired
from studies.speed.rows import Figure, Row

BATCH: Final = 64  # images in a bare forward, and the default of `perturbation_curve`


def bundled(images: int) -> tuple[nn.Module, Tensor]:
    return bundled_vit(), next(ClutteredDigits("validation", images).batches(images)).image


def deit(images: int) -> tuple[nn.Module, Tensor]:
    """DeiT-Ti/16 with initial weights, and noise: the time is the same."""
    import timm

    model = timm.create_model("deit_tiny_patch16_224", pretrained=False).eval()
    return model, torch.randn(images, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def throughput(made: Callable[[int], tuple[nn.Module, Tensor]], images: int, at_once: int, rounds: int) -> list[Figure]:
    """Both curves (20 steps, mean colour) of a data set in batches of `at_once`, every batch with its own clean images.

    The images that reach the model are counted by a hook in one run; the bare side forwards that many, copies of the same,
    64 at a time.
    """
    model, data = made(images)
    heat = torch.rand(images, 14, 14, generator=torch.Generator().manual_seed(0))

    def curves() -> None:
        for batch, grid in zip(data.split(at_once), heat.split(at_once), strict=True):
            for mode in ("deletion", "insertion"):
                _ = perturbation_curve(model, batch, grid, mode=mode, batch_size=BATCH).auc

    seen: list[int] = []
    with model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        curves()
    batch = data[torch.arange(BATCH) % images]

    @torch.no_grad()
    def forwards() -> None:
        for first in range(0, sum(seen), BATCH):
            model(batch[: sum(seen) - first])

    times = paired(curves, forwards, rounds)
    return [
        times.times_as_fast("throughput, bare forwards = 1", 0.85),
        Figure("images through the model", sum(seen), note=f"{images} images of data, {at_once} at once"),
    ]


_TITLE = "deletion and insertion over a data set, against bare batched forwards of as many images"
ROWS: Final = [
    Row("perturbation-bundled", f"{_TITLE}: the bundled ViT", partial(throughput, bundled, 16, 16, 3)),
    Row("perturbation-bundled-small", f"{_TITLE}: the bundled ViT, small batches", partial(throughput, bundled, 16, 4, 3)),
    Row("perturbation-deit", f"{_TITLE}: DeiT-Ti/16 at 224 pixels", partial(throughput, deit, 4, 4, 3)),
]
