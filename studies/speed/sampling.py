"""Rows of diffusion: the mean map of FLUX-shaped blocks while a denoiser runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor

import attnchain_interp as ac
from studies.speed.measurement import memory_of, paired
from studies.speed.rows import Bar, Figure, Row

HEADS: Final = 24
SINGLE: Final = 2
TOKENS: Final = 1024 + 256
HELD: Final = (1 + SINGLE) * HEADS * TOKENS * TOKENS * 4  # bytes of the maps of all blocks
Work = Callable[[], Any]


def denoiser() -> tuple[Any, dict[str, Tensor]]:
    """One block of both streams and two of one, of FLUX's width (3,072) and heads, with random weights."""
    diffusers: Any = import_module("diffusers")  # its lazy names are not seen by a type checker
    torch.manual_seed(0)
    model = diffusers.FluxTransformer2DModel(
        num_layers=1, num_single_layers=SINGLE, in_channels=64, joint_attention_dim=512
    ).eval()
    return model, inputs(32, 256)


def inputs(side: int, text: int) -> dict[str, Tensor]:
    positions = torch.zeros(side, side, 3)
    positions[..., 1], positions[..., 2] = torch.arange(side)[:, None], torch.arange(side)
    return {
        "hidden_states": torch.randn(1, side * side, 64),
        "encoder_hidden_states": torch.randn(1, text, 512),
        "pooled_projections": torch.randn(1, 768),
        "timestep": torch.tensor([0.5]),
        "img_ids": positions.flatten(0, 1),
        "txt_ids": torch.zeros(text, 3),
    }


def plain(model: Any, call: dict[str, Tensor]) -> Work:
    return torch.no_grad()(lambda: model(**call)[0])


def captured(model: Any, call: dict[str, Tensor]) -> Work:
    """One step with the running mean of all blocks."""

    @torch.no_grad()
    def work() -> Any:
        with ac.diffusion.capture_pipeline(SimpleNamespace(transformer=model)) as run:
            model(**call)
        return run.store

    return work


def watched(model: Any, call: dict[str, Tensor]) -> Work:
    """One step in an open context of which no step is taken."""

    @torch.no_grad()
    def work() -> Any:
        with ac.diffusion.capture_pipeline(SimpleNamespace(transformer=model), steps=[0]) as run:
            model(**inputs(1, 1))
            model(**call)
        return run.store

    return work


WORKS: Final[dict[str, Callable[[Any, dict[str, Tensor]], Work]]] = {"plain": plain, "captured": captured}


def job(name: str) -> Work:
    model, call = denoiser()
    WORKS[name](model, inputs(4, 8))()
    return WORKS[name](model, call)


def figures() -> list[Figure]:
    base, ours = memory_of(job, "plain"), memory_of(job, "captured")
    note = f"{ours.extra / 1e6:.0f} MB against {base.extra / 1e6:.0f} MB; the maps of all blocks are {HELD / 1e6:.0f} MB"
    model, call = denoiser()
    return [
        Figure("peak memory beyond the step alone, all maps = 1", (ours.extra - base.extra) / HELD, "×", Bar(0.1), note),
        paired(captured(model, call), plain(model, call), 3).times_as_long("time of a step with the mean, step = 1", 1.5),
        paired(watched(model, call), plain(model, call), 3).times_as_long("time of a step of which none is taken", 1.2),
    ]


ROWS: Final = [
    Row("sampling", "the mean map of 3 FLUX-shaped blocks, 24 heads, 1,024 + 256 tokens, against the step alone", figures)
]
