"""The patches of a model on images, and maps of patches on pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError, AttentionStore, capture
from attnchain_interp.store import covered_by


class Patches(NamedTuple):
    """How the patches of a model lie on images.

    Attributes:
        grid: (rows, columns).
        covered: the height and width in pixels that they cover, from the upper left corner. Where patches do not divide an
            image, they leave a rest of it unread, or lie outside of it in part.
    """

    grid: tuple[int, int]
    covered: tuple[int, int]


def patches_of(model: Callable[..., Any], images: Tensor) -> Patches | None:
    """Returns the patches of a model on images of this size; None where it does not tell them. It runs one image."""
    try:
        store = capture(model, images[:1], layers=[-1], maps="attention")
    except AttentionError:
        return None
    return patches_in(store, (images.shape[2], images.shape[3]))


def patches_in(store: AttentionStore, size: tuple[int, int]) -> Patches | None:
    """Returns the patches of a store on images of a height and width; None where its tokens have no grid."""
    grid = store.tokens.grid
    return grid and Patches(grid, covered_by(store, size))


def patches_on(model: Callable[..., Any], grid: tuple[int, int], images: Tensor) -> Patches:
    """Returns the patches of a grid on images: where the model has them, or spread over the images."""
    found = patches_of(model, images)
    return found if found is not None and found.grid == grid else Patches(grid, (images.shape[2], images.shape[3]))


def own_features(
    model: Callable[..., Any], patches: Patches | None, attributions: Tensor, images: Tensor
) -> Literal["patch"] | tuple[int, int]:
    """Returns "patch", or the model's grid for attributions of pixels. Warns where the model does not tell it."""
    if attributions.shape[1:] != images.shape[2:]:
        return "patch"
    if patches is not None:
        return patches.grid
    height, width = images.shape[-2:]
    warnings.warn(
        f"Attributions of {height} × {width} pixels are scored pixel by pixel, because {type(model).__name__} does not tell a"
        ' grid of tokens. Pass features=(rows, columns) to remove the cells of a grid, or features="pixel".',
        stacklevel=4,
    )
    return "patch"


def extent(cells: tuple[int, ...], size: tuple[int, ...], patches: Patches | None) -> tuple[int, int]:
    """Returns the height and width in pixels that cells (rows, columns) cover: those of the patches, or else the image."""
    return patches.covered if patches is not None and cells == patches.grid else (size[0], size[1])


def enlarged(cells: Tensor, size: tuple[int, ...], patches: Patches | None = None) -> Tensor:
    """Returns cells (batch, rows, columns) enlarged bilinearly to (batch, height, width).

    They are enlarged in float64 and rounded to float32, so that cells of equal scores become pixels of equal scores. A rest
    of the image that no patch reads continues the nearest pixels.
    """
    if tuple(cells.shape[1:]) == tuple(size):
        return cells
    whole = extent(tuple(cells.shape[1:]), size, patches)
    return fitted(F.interpolate(cells[:, None].double(), whole, mode="bilinear")[:, 0].float(), size)


def fitted(pixels: Tensor, size: tuple[int, ...]) -> Tensor:
    """Returns pixels (…, height, width) from the upper left corner on: cut to a size, or continued to it by the nearest.

    >>> fitted(torch.tensor([[1, 2], [3, 4]]), (1, 3))
    tensor([[1, 2, 2]])
    """
    rows, columns = (
        torch.arange(wanted, device=pixels.device).clamp_max(there - 1)
        for wanted, there in zip(size, pixels.shape[-2:], strict=True)
    )
    return pixels[..., rows[:, None], columns]


def pooled(pixels: Tensor, grid: tuple[int, int], patches: Patches | None = None) -> Tensor:
    """Returns the mean (batch, rows, columns) of the pixels (batch, height, width) in each cell of a grid."""
    size = pixels.shape[-2:]
    height, width = extent(grid, size, patches)
    around = (0, width - size[1], 0, height - size[0])
    inside = F.adaptive_avg_pool2d(F.pad(torch.ones_like(pixels[:1], dtype=torch.float64), around), grid)
    return F.adaptive_avg_pool2d(F.pad(pixels.double(), around), grid) / inside
