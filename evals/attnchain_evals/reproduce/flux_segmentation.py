"""ImageNet-Segmentation without training: bounces from the class's word through the attention of a diffusion model."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from attnchain_evals.bench.fingerprint import code_identity, differences, key_of, metric_identity
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.row_files import PartFile, Row, read_parts
from attnchain_evals.bench.runner import SCHEMA, Share, await_others
from attnchain_evals.metrics import localisation_metrics
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.reproduce.experiment import Settings, write_page
from attnchain_evals.reproduce.imagenet_segmentation import percentages
from attnchain_evals.reproduce.pipelines import Loading, load_pipeline
from attnchain_evals.reproduce.reported import IMAGENET_SEGMENTATION
from attnchain_evals.tasks.imagenet_segmentation import ImageNetSegmentation
from attnchain_interp import AttentionError
from attnchain_interp.diffusion import capture_image, word_map
from attnchain_interp.files import write_text
from attnchain_interp.store import Direction, Grid, LayerSelection

TITLE: Final = "ImageNet-Segmentation by a diffusion model"
SIDE: Final = 224  # that maps and masks are brought to, by nearest neighbour
METHODS: Final[dict[str, tuple[int, Direction]]] = {
    "column of the word": (1, "outgoing"),
    "row of the word": (1, "incoming"),
    "2 bounces, incoming": (2, "incoming"),
    "2 bounces, outgoing": (2, "outgoing"),
    "3 bounces, incoming": (3, "incoming"),
    "3 bounces, outgoing": (3, "outgoing"),
}


@final
@dataclass(frozen=True)
class Seeing:
    """How the denoiser is shown an image.

    Attributes:
        size: of the square that the image is squeezed to (bicubic), in pixels.
        timestep, heads, layers, grid: as in `capture_image`.
        text: tokens that the text encoder is asked for (`max_sequence_length`); None leaves it to the pipeline.
    """

    size: int = 512
    timestep: float = 250
    heads: str = "lambda2"
    layers: LayerSelection = "all"
    grid: Grid | None = None
    text: int | None = None

    def __call__(self, image: Any) -> Tensor:
        """(1, 3, size, size) between 0 and 1, of a PIL image."""
        return torch.from_numpy(np.array(image.convert("RGB").resize((self.size, self.size)))).permute(2, 0, 1)[None] / 255

    def mask(self, mask: Any) -> Tensor:
        """(224, 224) bool."""
        from PIL import Image

        return torch.from_numpy(np.array(mask.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 127)


def flux_segmentation(settings: Settings, loading: Loading, seeing: Seeing) -> str:
    """Measures and returns the page.

    The protocol is ConceptAttention's: the prompt is "a {class}"; maps and masks are brought to 224 × 224 by nearest
    neighbour; Acc, mIoU and mAP are as Chefer et al. define them. The class is the first of the names that WordNet gives it.
    One forward for each image, whose noise depends on the image's number alone. Rows are kept: the same call goes on where it
    stopped.

    Raises:
        AttentionError: a file of another layout or without classes, a folder that holds another run, or what `capture_image`
            and `word_map` raise.
    """
    data = ImageNetSegmentation(settings.data, seeing)
    metrics = localisation_metrics()
    share = Share.from_environment()
    manifest = _manifest(settings, loading, seeing, data, metrics)
    key, columns = manifest["key"], sum(len(metric.columns) for metric in metrics)
    _claim(settings.output, manifest, share)
    held = Counter(read_parts(settings.output, key)["example"])
    mine = range(share.rank, manifest["examples"], share.world)
    missing = [number for number in mine if held[number] < len(METHODS) * columns]
    if missing:
        pipe = load_pipeline(settings.model, settings.device, loading)
        part = PartFile(settings.output / f"rows-{share.rank:05d}.csv")
        try:
            for number in tqdm(missing, initial=len(mine) - len(missing), total=len(mine), unit="image", leave=False):
                part.append(_rows(key, number, maps_of(pipe, data, number, seeing), data[number].mask, metrics))
        finally:
            part.close()
    await_others(settings.output, key, manifest["examples"] * len(METHODS) * columns, share)
    result = BenchmarkResult.read(settings.output, metrics)
    return write_page(settings, TITLE, result, percentages(result), IMAGENET_SEGMENTATION)


def layers_of(text: str) -> LayerSelection:
    """The layers of "all", or of numbers and slices with commas between: "9:19,47:57".

    Raises:
        AttentionError: something else.
    """
    if text == "all":
        return "all"
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        if not first.isdigit() or (colon and not last.isdigit()):
            raise AttentionError(f'layers {text!r} is neither "all" nor numbers and slices with commas between: "9:19,47:57".')
        found += range(int(first), int(last)) if colon else [int(first)]
    return found


def grid_of(text: str | None) -> Grid | None:
    """Rows and columns of "16x16".

    Raises:
        AttentionError: something else.
    """
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not rows.isdigit() or not columns.isdigit():
        raise AttentionError(f'grid {text!r} has no rows and columns; write it as "16x16".')
    return int(rows), int(columns)


def maps_of(pipe: Any, data: ImageNetSegmentation, number: int, seeing: Seeing) -> dict[str, Tensor]:
    """Method → its map (1, row, column) of an image, all of one forward."""
    names = data.class_name(number)
    if names is None:
        raise AttentionError(f"image {number} has no class that is known, and the walk starts at the class's name.")
    word = names.split(",")[0].strip()
    options: dict[str, Any] = {} if seeing.text is None else {"max_sequence_length": seeing.text}
    options |= {"heads": seeing.heads, "layers": seeing.layers, "grid": seeing.grid, "timestep": seeing.timestep}
    generator = torch.Generator().manual_seed(number)
    store, cross = capture_image(pipe, data[number].image[None], f"a {word}", generator=generator, **options)
    return {name: word_map(store, word, steps, way, cross) for name, (steps, way) in METHODS.items()}


def _rows(key: str, number: int, maps: dict[str, Tensor], mask: Tensor | None, metrics: list[ExampleMetric]) -> list[Row]:
    assert mask is not None, "the data have masks"  # noqa: S101
    trial = Trial(lambda images: images, mask[None, None].float(), torch.zeros(1, dtype=torch.long), mask[None], number)
    rows: list[Row] = []
    for name, grid in maps.items():
        large = F.interpolate(grid[:, None].float().cpu(), (SIDE, SIDE), mode="nearest")[:, 0]
        for metric in metrics:
            (figures,) = metric.measure(trial, large).tolist()
            named = zip(metric.columns, figures, strict=True)
            rows += [(key, number, name, metric.name, metric.version, column, value) for column, value in named]
    return rows


def _manifest(
    settings: Settings, loading: Loading, seeing: Seeing, data: ImageNetSegmentation, metrics: list[ExampleMetric]
) -> dict[str, Any]:
    configuration = {
        "schema": SCHEMA,
        "model": {"name": settings.model, **asdict(loading), "device": settings.device},
        "data": data.identity,
        "methods": {name: {"class": "word_map", "steps": steps, "direction": way} for name, (steps, way) in METHODS.items()},
        "metrics": {metric.name: metric_identity(metric) for metric in metrics},
        "seeing": {**asdict(seeing), "layers": str(seeing.layers)},
        "limit": settings.limit,
        "code": code_identity(),
    }
    configuration = json.loads(json.dumps(configuration))  # tuples as lists, as they are read back
    examples = len(data) if settings.limit is None else min(settings.limit, len(data))
    return {"key": key_of(configuration), "batch_size": 1, "examples": examples, "configuration": configuration}


def _claim(folder: Path, manifest: dict[str, Any], share: Share) -> None:
    """Makes the folder that of this run.

    Raises:
        AttentionError: it is that of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there["key"] != manifest["key"]:
            changed = "; ".join(differences(manifest["configuration"], there["configuration"])[:5])
            raise AttentionError(f"{folder} holds another run ({changed}). Choose another folder, or remove this one.")
    elif share.rank == 0:
        write_text(path, json.dumps(manifest, indent=1))
