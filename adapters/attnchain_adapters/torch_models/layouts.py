"""The tokens of a PyTorch model: an image's patches, or text."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnchain_adapters.checks import check_image
from attnchain_adapters.torch_models.sequences import classes_of
from attnchain_adapters.torch_models.survey import Use
from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.store import Grid


def is_vision_transformer(model: Any) -> bool:
    """Returns whether a model is torchvision's vision transformer."""
    return "torchvision.models.vision_transformer.VisionTransformer" in classes_of(model)


def image_layout(model: Any, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> TokenLayout | None:
    """Returns the layout of torchvision's vision transformer; None for any other model."""
    if not is_vision_transformer(model):
        return None
    given = (*inputs, *kwargs.values())
    images: Any = next((value for value in given if isinstance(value, Tensor) and value.ndim == 4), next(iter(given), None))
    height, width = check_image(type(model).__name__, images, (model.image_size, model.image_size))
    return TokenLayout.image(len(images), (height // model.patch_size, width // model.patch_size), prefix=[Role.CLASS])


def batch_of(use: Use, given: Sequence[Tensor], layout: TokenLayout | None) -> int:
    """Returns the number of examples in a layer's map.

    Args:
        use: of the layer.
        given: the tensors that the model was given.
        layout: of the tokens, where it is known.
    """
    leading = use.shape[0] if use.shape else 1
    if not use.folded:
        return leading
    if use.heads and leading % use.heads == 0:
        return leading // use.heads
    sizes = [layout.batch] if layout is not None and layout.batch > 1 else [len(tensor) for tensor in given]
    return next((size for size in sizes if leading % size == 0), leading)


def sequences_given(values: Iterable[Any], nested: bool = False) -> Iterator[Tensor]:
    """Yields the tensors among the inputs of a model that can be a sequence or an image: neither flags nor masks.

    Those within a list or a dictionary count too. An image (channel, height, width) in a list is yielded as a batch of one.
    """
    for value in values:
        if isinstance(value, Mapping):
            yield from sequences_given(value.values(), nested)
        elif isinstance(value, list | tuple):
            yield from sequences_given(value, True)
        elif isinstance(value, Tensor) and value.ndim > 1 and value.dtype != torch.bool:
            yield value[None] if nested and value.ndim == 3 else value


def layout_of(use: Use, batch: int, given: Sequence[Tensor], name: str, stated: TokenLayout | None) -> TokenLayout:
    """Returns the layout of the keys of a layer.

    Without a layout the tokens are text, if the model was given no image and a sequence of as many examples and tokens, and
    padding where the call of the layer says so.

    Args:
        use: of the first layer.
        batch: the number of examples in its map.
        given: the tensors that the model was given.
        name: of the model.
        stated: the layout that the user or the family says.

    Raises:
        AttentionError: the layout is of another size, the model was given an image or a sequence of another size and no
            layout, the map is that of windows, or some keys get no attention and no layout says that they are padding.
    """
    keys = use.shape[-1] if use.shape else 0
    examples = {size for tensor in given for size in tensor.shape[: 2 if tensor.ndim < 4 else 1]} | {1}
    if given and batch not in examples and (stated is None or stated.batch != batch):
        raise AttentionError(
            f"layer {use.layer!r} attends within a batch of {batch}, and the model was given {tuple(given[0].shape)}: windows"
            " or frames are folded into the batch.",
            "Choose layers that attend to the whole, by name: layers=[…]."
            if use.folded
            else f"To read each as a chain of its own, pass their layout: reading=ac.Reading(tokens=…), of batch {batch}.",
        )
    if stated is not None:
        layout = stated.fitted(batch, keys)
        if (layout.batch, len(layout)) != (batch, keys):
            raise AttentionError(
                f"the layout has {len(layout)} tokens in a batch of {layout.batch}, and layer {use.layer!r} attends to {keys}"
                f" in a batch of {batch}.",
                _line(keys, given) or f"Pass the layout of {keys} tokens.",
            )
        _warn_of_exchanged(layout.grid, given)
        return layout
    images = [tensor for tensor in given if tensor.ndim > 3]
    if images or (batch, keys) not in _sizes(given):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in given) or "no tensor"
        raise AttentionError(
            f"{name} was given {'an image ' * bool(images)}{shapes}, and nothing says where the {keys} tokens of layer"
            f" {use.layer!r} lie.",
            _line(keys, given)
            or f"Write reading=ac.Reading(tokens=ac.TokenLayout(roles)), with the role of each token: roles (1, {keys})."
            + " If all are text: ac.TokenLayout.text()." * (len(images) < len(given)),
        )
    if use.padded and use.absent is None:
        raise AttentionError(
            f"layer {use.layer!r} gives some keys no attention at all, as padding, and nothing says which tokens are padding.",
            "Pass the attention mask of the tokenizer, (batch, token):"
            " reading=ac.Reading(tokens=ac.TokenLayout.text(attention_mask)).",
        )
    present = torch.ones(batch, keys) if use.absent is None else ~use.absent.cpu().reshape(batch, keys)
    return TokenLayout.text(present)


def _sizes(given: Sequence[Tensor]) -> set[tuple[int, int]]:
    """The numbers (example, token) of the sequences that tensors can be: tokens may come first, and a matrix may be one."""
    pairs = [(tensor.shape[0], tensor.shape[1]) for tensor in given]
    return {*pairs, *((second, first) for first, second in pairs), *((1, len(each)) for each in given if each.ndim == 2)}


def _warn_of_exchanged(grid: Grid | None, given: Sequence[Tensor]) -> None:
    """Warns of a grid that square patches of the images have with rows and columns exchanged, and not as it is."""
    sizes = [tuple(tensor.shape[-2:]) for tensor in given if tensor.ndim == 4]
    cut = {(height // side, width // side) for height, width in sizes for side in range(1, min(height, width) + 1)}
    if grid is not None and grid not in cut and grid[::-1] in cut:
        height, width = sizes[0]
        warnings.warn(
            f"The layout has the grid {grid}, (rows, columns), and square patches of images of {height}×{width} have the grid"
            f" {grid[::-1]}. If the patches are square, and the model does not transpose its images, write grid={grid[::-1]}.",
            stacklevel=2,
        )


def _line(keys: int, given: Sequence[Tensor]) -> str:
    """The line to write for these tokens: text that was given, or the grid of square patches that leaves the fewest others."""
    text = any(tensor.ndim == 2 and tensor.shape[1] == keys for tensor in given)
    lines = ["reading=ac.Reading(tokens=ac.TokenLayout.text())"] * text
    for image in given:
        grid, others = _grid(keys, image) if image.ndim == 4 else (None, 0)
        if grid is None or (text and others > 1):
            continue
        prefix = ", ".join(["ac.Role.CLASS"] + ["ac.Role.REGISTER"] * (others - 1))
        rest = "" if not others else ", class_token=True" if others == 1 else f", prefix=[{prefix}]"
        first = f", if the {others} other tokens come first" if others > 1 else ""
        lines.append(f"reading=ac.Reading(tokens=ac.TokenLayout.image(grid={grid}{rest})){first}")
    return f"Write {' or '.join(dict.fromkeys(lines))}." if lines else ""


def _grid(keys: int, image: Tensor) -> tuple[Grid | None, int]:
    """The grid of square patches that leaves the fewest other tokens, and how many it leaves."""
    height, width = image.shape[-2:]
    for others in range(9):
        for patch in range(1, min(height, width) + 1):
            grid = height // patch, width // patch
            if grid[0] * grid[1] == keys - others > others and height % patch == width % patch == 0:
                return grid, others
    return None, 0
