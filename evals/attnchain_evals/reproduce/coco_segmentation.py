"""COCO-Stuff-27 without training: the regions of attention, matched with classes image by image, as DiffSeg's code does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnchain_evals.bench.experiment import device_named
from attnchain_evals.bench.model_loading import grey_noise, load
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Plan, run
from attnchain_evals.bench.tables import table
from attnchain_evals.metrics import ExampleMetric
from attnchain_evals.metrics.matched_segments import MatchedAccuracy, MatchedIoU, PanopticCovering
from attnchain_evals.reproduce.experiment import Settings, write_page
from attnchain_evals.reproduce.reported import COCO_STUFF_27
from attnchain_evals.segments import segment
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_evals.tasks.coco_panoptic import CocoPanoptic
from attnchain_evals.tasks.digest import digest
from attnchain_interp import AttentionError

TITLE: Final = "COCO-Stuff-27"


@final
@dataclass(frozen=True)
class Partition:
    """How a photograph is parted: by `segment` with these settings, or by a raster of rows × columns."""

    wanted: str = "regions"
    k: int | None = None
    refine: bool = True
    raster: tuple[int, int] | None = None


METHODS: Final = {
    "regions, k by the spectrum": Partition(),
    "regions, k by the spectrum, not refined": Partition(refine=False),
    "regions, k = 6": Partition(k=6),
    "pieces, k by the spectrum": Partition("pieces"),
    "a raster of 2 × 4": Partition(raster=(2, 4)),
    "one segment": Partition(raster=(1, 1)),
}


@final
class Parts:
    """The parts of one photograph, by each method.

    Args:
        reader: the model.
        pixels: (1, 3, height, width) uint8.
    """

    known_target = None  # no class is explained

    def __init__(self, reader: WholePatches, pixels: Tensor) -> None:
        self._reader, self._pixels = reader, pixels[0].permute(1, 2, 0).cpu().numpy()

    @cached_property
    def _photograph(self) -> Any:
        return Image.fromarray(self._pixels)

    def scores(self, method: Partition) -> Tensor:
        """Returns the number of each pixel's segment: (1, height, width)."""
        if method.raster is None:
            wanted: Any = method.wanted
            found = segment(self._reader, self._photograph, wanted=wanted, k=method.k, refine=method.refine).labels
        else:
            height, width = self._pixels.shape[:2]
            rows, columns = method.raster
            found = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
        return torch.from_numpy(np.ascontiguousarray(found)).long()[None]


def coco_segmentation(settings: Settings, split: str = "val2017") -> str:
    """Measures and returns the page.

    The run is kept, and the same call continues it. Photographs are read whole in their proportions, and scored at their own
    size; DiffSeg crops them to squares of 512 pixels. Pixels that nobody labelled count nowhere.
    """
    data, loaded = CocoPanoptic(settings.data, split), load(settings.model)
    if loaded.preprocess is None:
        raise AttentionError(f"{settings.model} takes no images.", "Use a vision transformer.")
    reader = WholePatches(loaded.model.to(device_named(settings.device)), loaded.preprocess)
    metrics: Sequence[ExampleMetric] = [
        MatchedIoU(len(data.classes)),
        MatchedAccuracy(len(data.classes)),
        PanopticCovering(),
    ]
    plan = Plan(
        loaded.model,
        data,
        METHODS,
        metrics,
        batch_size=1,
        limit=settings.limit,
        name=settings.model,
        capture=lambda _, pixels, __: Parts(reader, pixels),
        settings={"preprocessing": digest(reader.pixels(grey_noise()))},
    )
    run(plan, settings.output, progress=True)
    result = BenchmarkResult.read(settings.output, metrics)
    return write_page(settings, TITLE, result, _scores(result), COCO_STUFF_27)


def _scores(result: BenchmarkResult) -> str:
    """Method × ACC, mIoU in per cent as the literature has them, and covering, with 95 % intervals."""
    rows = []
    for method in result.methods:
        scores = result.scores[method]
        cells = [
            "{:.2f} [{:.2f}, {:.2f}]".format(*(factor * figure for figure in scores[name]))
            for name, factor in (("acc", 100), ("miou", 100), ("covering", 1))
        ]
        rows.append([method, *cells])
    return table(["method", "ACC ↑", "mIoU ↑", "covering ↑"], rows)
