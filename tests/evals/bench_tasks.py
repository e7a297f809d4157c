"""A tiny benchmark that takes milliseconds: a callable in the place of attention, and metrics that are arithmetic."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from captum.attr import Attribution
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals.bench.image_controls import InputMagnitude
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Plan, Share
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.tasks.examples import Picture

ALONE = Share()
HOSTILE = "</script><img src=x onerror=alert(1)>|"  # the name of a method


class Examples:
    """Random images with the left half as their object."""

    def __init__(self, length: int = 11, seed: int = 0) -> None:
        self.images = torch.rand(length, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        self.identity: dict[str, Any] = {"length": length, "seed": seed}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Picture:
        return Picture(self.images[index], torch.arange(8).expand(8, 8) < 4)


class Peak(ExampleMetric):
    """The greatest score times a random number, and the mean of the image; NaN for example 3."""

    version = 1
    higher_is_better = True

    def __init__(self, pause: float = 0) -> None:
        super().__init__("peak", ("score", "image"))
        self._pause = pause

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        time.sleep(self._pause)
        peak = attributions.flatten(1).amax(1) + torch.rand(len(attributions))
        figures = torch.stack([peak, trial.inputs.mean((1, 2, 3))], 1).double()
        figures[trial.first + torch.arange(len(figures)) == 3] = torch.nan
        return figures


class Centre(ExampleMetric):
    """The score of the first patch; less is better."""

    version = 1
    higher_is_better = False

    def __init__(self) -> None:
        super().__init__("centre")

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        return attributions[:, 0, :1].double()


class Noise(Attribution):
    """A method that draws from the global generator."""

    def __init__(self) -> None:
        super().__init__(lambda inputs: inputs)

    def attribute(self, inputs: Tensor, target: Any = None, output: str = "input") -> Tensor:  # type: ignore[override]
        return torch.rand(len(inputs), 2, 2)


class Reader(nn.Module):
    """Logits of the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.weight


def plan(pause: float = 0, **changes: Any) -> Plan:
    """Eleven examples in batches of three, three methods, two metrics."""
    settings: dict[str, Any] = {
        "model": Reader().eval(),
        "data": Examples(),
        "methods": {"magnitude": InputMagnitude((2, 2)), "noise": Noise(), 'a "name", <b>|': InputMagnitude((2, 4))},
        "metrics": [Peak(pause), Centre()],
        "batch_size": 3,
    }
    return Plan(**settings | changes)


def tiny_vit(classes: int = 3) -> nn.Module:
    """A random vision transformer of 4 × 4 patches."""
    from timm.models import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=classes).eval()


def vit_methods(model: nn.Module) -> dict[str, Any]:
    return {
        "Rollout": ac.Rollout(),
        "TokenRank": ac.TokenRank(),
        "GradientAttention": ac.GradientAttention(),
        "RandomRanking": ac.RandomRanking(),
        "magnitude": InputMagnitude((4, 4)),
    }


def table(folder: Path, of: Plan) -> pd.DataFrame:
    return BenchmarkResult.read(folder, of.metrics).table()


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def made(values: dict[str, list[float]], settings: dict[str, dict[str, object]] | None = None) -> BenchmarkResult:
    """A result of one metric, less is better, with these figures."""
    rows = [("k", e, m, "centre", 1, "value", v) for m, column in values.items() for e, v in enumerate(column)]
    frame = pd.DataFrame(rows, columns=["run", "example", "method", "metric", "version", "column", "value"])
    methods = settings or {name: {"class": name} for name in values}
    configuration: dict[str, Any] = {
        "methods": methods,
        "metrics": {"centre": {"columns": ["value"], "higher_is_better": False}},
    }
    configuration |= {"limit": None, "model": {"name": "made"}}
    return BenchmarkResult({"key": "k", "examples": 4, "configuration": configuration}, frame, [Centre()])
