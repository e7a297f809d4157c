"""The table of denoisers: the grid of their image tokens, and the order of text and image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.store import Grid


@final
@dataclass(frozen=True)
class Family:
    """Describes a class of denoisers.

    Attributes:
        sample: the argument that is denoised.
        grids: model, arguments, module name → the grid (rows, columns) of image tokens that the module sees.
        joint: of text and image in one sequence, which of them comes first; empty where they are never joined.
        tokenizers: those of a pipeline that give the denoiser's text tokens, one after another.
    """

    sample: str
    grids: Callable[[Any, Mapping[str, Any], str], Grid]
    joint: Literal["text first", "image first", ""] = ""
    tokenizers: tuple[str, ...] = ("tokenizer",)


def _of_positions(_: Any, given: Mapping[str, Any], __: str) -> Grid:
    """FLUX packs 2 × 2 latents into a token and names its image, row and column in `img_ids` (token, 3)."""
    positions: Tensor = given["img_ids"][0] if given["img_ids"].ndim == 3 else given["img_ids"]
    grid = int(positions[:, 1].max()) + 1, int(positions[:, 2].max()) + 1
    rows, columns = (torch.arange(side, dtype=positions.dtype, device=positions.device) for side in grid)
    alone = bool((positions[:, 0] == positions[0, 0]).all())
    if not alone or not torch.equal(positions[:, 1:], torch.cartesian_prod(rows, columns)):
        raise AttentionError(
            f"the {len(positions)} image tokens do not fill one grid of {grid[0]} × {grid[1]}: there are several images in the"
            " sequence (FLUX Kontext), which is not read.",
            "Use a pipeline whose denoiser sees one image.",
        )
    return grid


def _of_patches(model: Any, given: Mapping[str, Any], _: str) -> Grid:
    height, width = given["hidden_states"].shape[-2:]
    return height // model.config.patch_size, width // model.config.patch_size


def _of_level(model: Any, given: Mapping[str, Any], name: str) -> Grid:
    """A UNet halves the grid after each of its downward blocks but the last, and doubles it on the way up."""
    levels = len(model.config.block_out_channels)
    block, _, rest = name.partition(".")
    place = int(rest.split(".")[0]) if block != "mid_block" else levels - 1
    level = place if block != "up_blocks" else levels - 1 - place
    height, width = given["sample"].shape[-2:]
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


FAMILIES: Final[dict[str, Family]] = {
    "DiTTransformer2DModel": Family("hidden_states", _of_patches),
    "FluxTransformer2DModel": Family("hidden_states", _of_positions, "text first", ("tokenizer_2",)),
    "PixArtTransformer2DModel": Family("hidden_states", _of_patches),
    "SD3Transformer2DModel": Family("hidden_states", _of_patches, "image first", ("tokenizer", "tokenizer_3")),
    "UNet2DConditionModel": Family("sample", _of_level),
    "UNet2DModel": Family("sample", _of_level),
}
