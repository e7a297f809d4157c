"""The main job end to end: the bundled model on test images, every method, scores with intervals, pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from attnchain_evals.benchmarking import Benchmark, Reading, benchmark
from attnchain_evals.bundled import bundled_vit
from attnchain_evals.cluttered_digits import ClutteredDigits, Example
from attnchain_evals.figures import (
    attribution_figure,
    bounce_figure,
    head_figure,
    layer_figure,
    metastable_figure,
    write_figure,
)
from attnchain_evals.files import write_text
from attnchain_interp import AttentionError, AttentionStore, MetastableStates, coarse_grained_stationary

BATCH = 32
FRACTIONS = (0.0, 1 / 16, 1 / 4, 3 / 4, 15 / 16, 1.0)  # dense where the evidence goes and comes, symmetric for SRG
SHOWN = 6


class Demo(NamedTuple):
    """What a demo found, the model's accuracy on its images, and the files it wrote."""

    benchmark: Benchmark
    accuracy: float
    files: list[Path]


def run(methods: Mapping[str, Any], out: Path, images: int, seed: int, fractions: Sequence[float] = FRACTIONS) -> Demo:
    """Scores the methods on `images` test images and writes `results.json`, `results.md` and the pictures into `out`.

    Raises:
        AttentionError: fewer than two images, of which no interval can be computed.
    """
    if images < 2:
        raise AttentionError(f"images is {images}; an interval needs at least two.")
    model = bundled_vit()
    data = ClutteredDigits("test", images, seed=seed)
    batches = list(tqdm(data.batches(BATCH), "images", -(-images // BATCH), leave=False))
    result = benchmark(model, batches, methods, fractions=fractions, progress=True)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / name for name in ("results.json", "results.md")]
    accuracy = _accuracy(model, batches)
    write_text(files[0], json.dumps(_report(result, model, data, accuracy, fractions), indent=1))
    write_text(files[1], result.markdown() + "\n")
    first = Example(*(field[:SHOWN] for field in batches[0]))
    reading = Reading(model, first.image)
    store, maps = reading.store, {name: reading.grid(method) for name, method in methods.items()}
    figures = {
        "attributions.png": attribution_figure(first.image, first.mask, maps),
        "layers.png": layer_figure(store, first.image[0]),
        "bounces.png": bounce_figure(store, first.image[0], patch_on(first.mask[0], store)),
        "heads.png": head_figure(store),
        "states.png": state_figure(store, first.image),
    }
    files += [write_figure(figure, out / name) for name, figure in figures.items()]
    return Demo(result, accuracy, files)


def state_figure(store: AttentionStore, images: Tensor) -> Figure:
    """The metastable states of every image, as many as its spectrum has before its largest gap."""
    method = MetastableStates()
    chain, memberships = method.chain(store), method.memberships(store)
    return metastable_figure(images, store.tokens.to_grid(memberships.mT), coarse_grained_stationary(chain, memberships))


def patch_on(mask: Tensor, store: AttentionStore) -> int:
    """The position of the token whose patch the mask (height, width) covers most."""
    if store.tokens.grid is None:
        raise AttentionError("the store has no image grid.")
    covered = nn.functional.adaptive_avg_pool2d(mask[None].float(), store.tokens.grid).flatten()
    patches = store.tokens.select("patch")[0].nonzero()[:, 0]
    return int(patches[covered.argmax()])


@torch.no_grad()
def _accuracy(model: nn.Module, batches: list[Example]) -> float:
    right = torch.cat([model(batch.image).argmax(1) == batch.label for batch in batches])
    return float(right.float().mean())


def _report(
    result: Benchmark, model: nn.Module, data: ClutteredDigits, accuracy: float, fractions: Sequence[float]
) -> dict[str, Any]:
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    return {
        "versions": {name: version(name) for name in ("attnchain-interp", "torch", "captum", "timm", "numpy")},
        "model": {"name": "bundled", "sha256": weights.hexdigest(), "accuracy": accuracy},
        "data": {"name": "ClutteredDigits", "split": data.split, "length": len(data), "seed": data.seed},
        "fractions": list(fractions),
        "interval": "95 % percentile bootstrap over examples, 2000 resamples, seed 0",
        "baseline": result.baseline,
        "columns": [
            *(f"{mode}/{occlusion}" for occlusion in result.occlusions for mode in ("deletion", "insertion")),
            *("correct", "background intersection", "background union"),
            *("foreground intersection", "foreground union", "average precision"),
        ],
        "scores": result.scores,
        "examples": {method: figures.round(6).tolist() for method, figures in result.figures.items()},
    }
