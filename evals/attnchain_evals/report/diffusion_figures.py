"""Pictures of samples under guidance and of the segments of images."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from attnchain_evals.tasks.textured_digits import Example
from attnchain_interp.pictures import blank_axes, displayable


def sample_figure(samples: Mapping[str, Tensor]) -> Figure:
    """Draws one row of samples (sample, 1, height, width) for each guidance. The samples of a column share their noise."""
    figure, axes = blank_axes(len(samples), max(map(len, samples.values())), cell=0.9)
    for row, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(row, images, strict=False):
            axis.imshow(displayable(image))
        place = {"rotation": 90, "va": "center", "ha": "right", "transform": row[0].transAxes}
        row[0].text(-0.06, 0.5, name.replace(", ", "\n"), fontsize=6, **place)
    return figure


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
