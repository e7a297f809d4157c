"""A photograph as the model reads it and as it is shown: at its own resolution, with the part that the model reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from attnchain_evals.bench.model_loading import normalization_of, read_image
from attnchain_interp.store import covered_by

if TYPE_CHECKING:
    from torch import Tensor

    from attnchain_interp.capture import LoadedModel
    from attnchain_interp.store import AttentionStore

MOST: Final = 2000  # pixels of the longer side of a picture


class Photograph(NamedTuple):
    """A photograph.

    Attributes:
        pixels: (1, channel, height, width), the model's input.
        shown: the photograph itself, (height, width, 3), of at most `MOST` pixels a side.
        part: (left, top, right, bottom) of `shown`: what is left of it after the preprocessing; None is all of it.
    """

    pixels: Tensor
    shown: Any
    part: tuple[float, float, float, float] | None

    @property
    def read(self) -> Any:
        """The part of the photograph that is left after the preprocessing."""
        if self.part is None:
            return self.shown
        left, top, right, bottom = map(round, self.part)
        return self.shown[top : max(bottom, top + 1), left : max(right, left + 1)]

    def covered(self, store: AttentionStore) -> tuple[float, float, float, float]:
        """Returns the part of `shown` on which the patches of a store lie."""
        left, top, right, bottom = self.part or (0, 0, *self.shown.shape[1::-1])
        size = self.pixels.shape[2], self.pixels.shape[3]
        height, width = covered_by(store, size)
        return left, top, left + (right - left) * width / size[1], top + (bottom - top) * height / size[0]


def photograph(loaded: LoadedModel, path: str | Path | None) -> Photograph:
    """Reads the photograph of a file. None is the first image of the bundled task.

    A preprocessing that does more than resize and crop is shown by its result.
    """
    import numpy as np

    from attnchain_evals.tasks.image_folder import open_image
    from attnchain_interp.pictures import displayable, read_part

    pixels, preprocess = read_image(loaded, path), loaded.preprocess
    if path is not None and preprocess is not None:
        image = open_image(path)
        image.thumbnail((MOST, MOST))
        part = read_part(preprocess, *image.size)
        if part is not None:
            return Photograph(pixels, np.asarray(image), part)
    return Photograph(pixels, displayable(pixels[0], normalization_of(preprocess)), None)
