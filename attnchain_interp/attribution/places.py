"""Where the cells of a grid lie on the pixels of an image."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.errors import AttentionError
from attnchain_interp.store import Grid, covered


def check_places(metadata: Mapping[str, str], images: Tensor) -> None:
    """Refuses scores of an image of another size than the input's (batch, channel, height, width)."""
    given, read = f"{images.shape[2]}×{images.shape[3]}", metadata.get("images")
    if read not in (None, given):
        raise AttentionError(
            f"the input is {given}, and the model inside gets images of {read}: resized or cropped, which is not known here.",
            f'Ask for output="grid", whose cells lie on those images, or pass images of {read}.',
        )


def on_pixels(cells: Tensor, metadata: Mapping[str, str], size: Grid) -> Tensor:
    """Returns the value of each pixel's cell (batch, height, width); zero where no cell lies.

    Args:
        cells: (batch, rows, columns).
        metadata: of the store.
        size: height and width of the images.
    """
    height, width = covered(metadata, (cells.shape[1], cells.shape[2]), size)
    spread = F.interpolate(cells[:, None], (height, width), mode="nearest")[:, 0]
    return F.pad(spread, (0, size[1] - width, 0, size[0] - height))


def in_cells(pixels: Tensor, metadata: Mapping[str, str], grid: Grid) -> Tensor:
    """Returns the sums (batch, rows, columns) of the values of pixels (batch, height, width) over the cells of a grid."""
    height, width = covered(metadata, grid, (pixels.shape[1], pixels.shape[2]))
    area = height * width / (grid[0] * grid[1])
    whole = F.pad(pixels, (0, width - pixels.shape[2], 0, height - pixels.shape[1]))
    return F.adaptive_avg_pool2d(whole, grid) * area
