"""The pictures of the study of segments: the walk from a point, and what each method finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from torch import Tensor

from attnchain_evals.tasks.textured_digits import Example
from attnchain_interp.pictures import blank_axes, displayable, show_bounces, write_figure
from studies.diffusion.digit_segmentation import BRIGHTNESS, CEILING, SegmentationStudy, attention_of, points, segment

SHOWN: Final = 5


def segmentation_pictures(pipe: Any, study: SegmentationStudy, test: Example, out: Path) -> list[Path]:
    """Draws the walk from a point and the segments of each method; returns the files."""
    few = Example(*(field[:SHOWN] for field in test))
    chosen = {name: choice for name, choice in study.chosen.items() if name not in (BRIGHTNESS, CEILING)}
    store = attention_of(pipe, few.image, chosen["multi-bounce from a point"].attention)
    figures = {
        "bounces.png": show_bounces(store, few.image[0], start=int(points(few.mask)[0])),
        "segments.png": region_figure(few, segment(pipe, few, chosen)),
    }
    return [write_figure(figure, out / f"diffusion-{name}") for name, figure in figures.items()]


def region_figure(batch: Example, regions: Mapping[str, Tensor]) -> Figure:
    """Draws one row for each image: the image, its mask, and the segments (batch, height, width) of each method.

    White (1) is the object, dark (0) the background, grey (−1) neither.
    """
    figure, axes = blank_axes(len(batch.image), 2 + len(regions), cell=1.1)
    for row, image, mask, *found in zip(axes, batch.image, batch.mask, *regions.values(), strict=True):
        row[0].imshow(displayable(image))
        for axis, region in zip(row[1:], [mask.long(), *found], strict=True):
            axis.imshow(region.float().masked_fill(region < 0, 0.5).numpy(), cmap="gray", vmin=-0.15, vmax=1)
    for axis, title in zip(axes[0], ["input", "mask", *regions], strict=True):
        axis.set_title(title.replace(", ", ",\n").replace(" from ", "\nfrom ").replace(" states", "\nstates"), fontsize=6)
    return figure
