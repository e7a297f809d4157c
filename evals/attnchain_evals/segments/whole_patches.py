"""Photographs in whole patches: nothing is cropped, the proportions stay, and both sides are multiples of the patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.segments.refinement import Share
from attnchain_evals.tasks.mask_placement import WholeImage
from attnchain_interp import AttentionError, AttentionStore, capture
from attnchain_interp.capture import rgb_image
from attnchain_interp.store import covered_by, covered_size

PATCHES: Final = 24
"""Patches along the shorter side of a photograph, for a model that takes any size."""
_STRETCHED: Final = 8  # the longer side is at most this many times the shorter, so that no side is without patches


@final
class WholePatches:
    """A model, and the photographs that it is given: whole, in their proportions if the model takes images of any size.

    Args:
        model: a vision transformer, or a callable that takes images and returns an `AttentionStore`.
        preprocess: a PIL image → the model's input (1, channel, height, width), whose normalisation is kept.
        side: pixels of the shorter side. None means 24 patches, or the model's own size if it takes no other.

    Raises:
        AttentionError: the model has no grid of patches; `side` is given and the model takes only its own size, or `side` is
            less than a patch.
    """

    def __init__(self, model: Any, preprocess: Callable[[Any], Tensor], side: int | None = None) -> None:
        self.model, self._own = model, WholeImage(preprocess)
        black = torch.zeros(1, 3, *self._own.size)
        store = capture(model, black, layers=-1)
        grid = store.tokens.grid
        if grid is None:
            raise AttentionError(
                f"the tokens of {type(model).__name__} are no grid of patches, so they segment no image.",
                "Use a vision transformer; see the tokens of a model with `attnchain inspect`.",
            )
        self.patch = covered_size(store.metadata, grid, self._own.size)[0] // grid[0]
        self._side = side or PATCHES * self.patch
        if self._side < self.patch:
            raise AttentionError(f"side is {side} pixels, and a patch has {self.patch}.", f"Use {2 * self.patch} or more.")
        self.any_size = _takes(model, (self._own.size[0] + self.patch, self._own.size[1]))
        if side is not None and not self.any_size:
            raise AttentionError(
                f"{type(model).__name__} takes images of {self._own.size[0]} × {self._own.size[1]} pixels alone.",
                "Leave side out, or load the model for images of any size (timm: dynamic_img_size=True).",
            )

    def __repr__(self) -> str:
        size = f"shorter side {self._side} pixels" if self.any_size else f"{self._own.size[0]} × {self._own.size[1]} pixels"
        return f"WholePatches({type(self.model).__name__}, {size}, patches of {self.patch})"

    def size(self, image: Any) -> tuple[int, int]:
        """Returns the (height, width) at which the model sees a PIL image."""
        if not self.any_size:
            return self._own.size
        shorter = max(min(image.size), max(image.size) / _STRETCHED)
        height, width = (max(1, round(self._side * max(each, 1) / shorter / self.patch)) for each in image.size[::-1])
        return height * self.patch, width * self.patch

    def pixels(self, image: Any) -> Tensor:
        """Returns what the model sees of a PIL image: (1, channel, height, width)."""
        from PIL import Image

        height, width = self.size(image)
        small = rgb_image(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
        shares = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
        where = next(self.model.parameters(), shares) if isinstance(self.model, nn.Module) else shares
        return self._own.normalised(shares)[None].to(where.device, where.dtype)

    def store(self, image: Any, layers: Any = "all") -> AttentionStore:
        """Captures the attention of a PIL image."""
        return capture(self.model, self.pixels(image), layers=layers)

    def covered(self, store: AttentionStore, image: Any) -> Share:
        """Returns the shares of a photograph's height and width that the patches of its store cover."""
        size = self.size(image)
        height, width = covered_by(store, size)
        return height / size[0], width / size[1]


def _takes(model: Any, size: tuple[int, int]) -> bool:
    """Says whether a model takes images of this size."""
    try:
        grid = capture(model, torch.zeros(1, 3, *size), layers=-1).tokens.grid
    except (AttentionError, AssertionError, RuntimeError, ValueError):
        return False
    return grid is not None
