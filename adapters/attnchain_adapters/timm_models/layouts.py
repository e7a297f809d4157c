"""The tokens of a timm model: its prefix tokens, and the grid of each of its layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from attnchain_adapters.checks import check_image
from attnchain_adapters.timm_models.families import Family
from attnchain_interp import AttentionError, Role, TokenLayout


def layout_of(
    model: Any, family: Family, names: Sequence[str], wanted: Sequence[str], given: Mapping[str, Any]
) -> TokenLayout:
    """Returns the common layout of the tokens of several layers.

    Args:
        model: the model.
        family: the family of the model.
        names: the names of all its layers.
        wanted: the layers that share a store.
        given: the arguments of its forward, by name.

    Raises:
        AttentionError: inputs that the model cannot take, or layers whose tokens lie on different grids.
    """
    images: Any = given.get("x")
    name = type(model).__name__
    packed = images if isinstance(images, Mapping) else given
    if packed.get("patch_coord") is not None:
        return _packed(model, packed)
    height, width = check_image(name, images, _size(model, family))
    grids = {layer: _grid(model, family, layer, (height, width)) for layer in names}
    if len({grids[layer] for layer in wanted}) > 1:
        raise AttentionError(
            f"{len(wanted)} layers of {name} lie on different grids, and a store has one grid.",
            f"Choose one of {_choices(names, grids)}.",
        )
    return TokenLayout.image(len(images), grids[wanted[0]], prefix=prefix_of(model))


def without_prefix(model: Any, tokens: TokenLayout) -> TokenLayout:
    """Returns the layout of the patches alone."""
    return TokenLayout(tokens.roles[:, len(prefix_of(model)) :], tokens.grid)


def prefix_of(model: Any) -> list[Role]:
    """Returns the roles of the tokens before the patches: class token, then distillation token or registers."""
    if hasattr(model, "num_branches"):
        return [Role.CLASS]  # one in each branch
    count: int = getattr(model, "num_prefix_tokens", getattr(model, "num_tokens", 0))
    has_class = count > 0 and any(getattr(part, "cls_token", None) is not None for part in (model, _embedding(model)))
    rest = Role.SPECIAL if getattr(model, "head_dist", None) is not None else Role.REGISTER
    return [Role.CLASS] * has_class + [rest] * (count - has_class)


def _embedding(model: Any) -> Any:
    """The module that makes patches of images."""
    owner = getattr(model, "encoder", model)
    found = (getattr(owner, name, None) for name in ("patch_embed", "pixel_embed", "embeds"))
    return next((module for module in found if isinstance(module, nn.Module)), None)


def _size(model: Any, family: Family) -> tuple[int, int] | None:
    """The size of images that a model wants; None for any size, and where the model checks the size itself."""
    embedding = _embedding(model)
    if family.grid not in ("patches", "pooled") or getattr(embedding, "dynamic_img_pad", False):
        return None
    return embedding.img_size if getattr(embedding, "strict_img_size", hasattr(embedding, "img_size")) else None


def _grid(model: Any, family: Family, layer: str, size: tuple[int, int]) -> tuple[int, int]:
    """The grid (rows, columns) of the tokens of a layer. The collector compares the maps with it."""
    if family.grid == "branches":
        embedding = model.patch_embed[int(layer.split(".")[3])]
        if model.crop_scale and embedding.img_size != size:
            raise AttentionError(
                f"{layer} sees a crop of {embedding.img_size} of images of {size} (crop_scale=True), so its grid does not"
                " cover them.",
                "Pass images of that size, or choose layers of the other branch.",
            )
        return embedding.img_size[0] // embedding.patch_size[0], embedding.img_size[1] // embedding.patch_size[1]
    if family.grid == "pooled":
        return _reduced(model.patch_embed.grid_size, 2 ** int(layer.split(".")[1]))
    if family.grid == "positions":
        positions = model.get_submodule(layer).pos_embed
        return positions.height, positions.width
    if family.grid == "stages":
        return _reduced(size, next(s["reduction"] for s in model.feature_info if layer.startswith(s["module"] + ".")))
    embedding = _embedding(model)
    if hasattr(embedding, "dynamic_feat_size"):
        return embedding.dynamic_feat_size(size)
    return size[0] // embedding.patch_size[0], size[1] // embedding.patch_size[1]


def _reduced(size: tuple[int, int], reduction: int) -> tuple[int, int]:
    return math.ceil(size[0] / reduction), math.ceil(size[1] / reduction)


def _packed(model: Any, given: Mapping[str, Any]) -> TokenLayout:
    """Patches in any order, as NaFlex loaders pack them: there is no grid, and some are padding."""
    coordinates: Tensor = given["patch_coord"]
    valid = given.get("patch_valid")
    valid = torch.ones(coordinates.shape[:2], dtype=torch.bool, device="cpu") if valid is None else valid.cpu().bool()
    patches = torch.where(valid, int(Role.PATCH), int(Role.PAD))
    prefix = torch.tensor(prefix_of(model), dtype=patches.dtype, device="cpu").expand(len(patches), -1)
    return TokenLayout(torch.cat([prefix, patches], 1))


def _choices(names: Sequence[str], grids: Mapping[str, tuple[int, int]]) -> str:
    """The selection of layers for each grid: '14×14: layers=slice(0, 3); …'."""
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(grids[name], []).append(number)
    return "; ".join(f"{rows}×{columns}: layers={_selection(found)}" for (rows, columns), found in numbers.items())


def _selection(numbers: Sequence[int]) -> str:
    runs = [list(run) for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return f"slice({numbers[0]}, {numbers[-1] + 1})" if len(runs) == 1 else str(list(numbers))
