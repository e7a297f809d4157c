"""Images whose tokens stand in a text: a model takes those of all examples one after another, beside the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from attnchain_interp.errors import AttentionError

_GRIDS: Final = {"image_grid_thw": "pixel_values", "video_grid_thw": "pixel_values_videos"}
_OF_IMAGES: Final = {*_GRIDS, *_GRIDS.values(), "image_sizes", "second_per_grid_ts"}


def pixels_of_examples(arguments: Mapping[str, Any], batch: int, first: int, size: int) -> dict[str, Tensor]:
    """Returns the patches of some examples of a batch, by name, where all images are one sequence of patches (Qwen-VL).

    Args:
        arguments: of the model. The grid of an image (time, height, width) says how many patches it has.
        batch: the number of examples.
        first: the number of the first example.
        size: how many examples are taken.

    Raises:
        AttentionError: another number of images than of examples.
    """
    found = dict[str, Tensor]()
    for name, of in _GRIDS.items():
        grids, patches = arguments.get(name), arguments.get(of)
        if size >= batch or not isinstance(grids, Tensor) or not isinstance(patches, Tensor):
            continue
        if len(grids) != batch:
            raise AttentionError(
                f"{name} holds {len(grids)} of {batch} examples, which are taken {size} at a time, and nothing says whose they"
                " are.",
                "Pass one example at a time.",
            )
        ends = [0, *grids.prod(1).cumsum(0).tolist()]
        found[of] = patches[ends[first] : ends[min(first + size, batch)]]
    return found


def are_of_images(model: Any, name: str) -> bool:
    """Returns whether an argument of a model holds images whose tokens stand in its text."""
    return name in _OF_IMAGES and hasattr(getattr(model, "config", None), "image_token_id")
