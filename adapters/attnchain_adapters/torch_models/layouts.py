"""The tokens of a plain PyTorch model: an image's patches, or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnchain_adapters.checks import check_image
from attnchain_adapters.torch_models.stacks import classes_of
from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.capture import StackKind


def is_vision_transformer(model: Any) -> bool:
    """Returns whether a model is torchvision's vision transformer."""
    return "torchvision.models.vision_transformer.VisionTransformer" in classes_of(model)


def image_layout(model: Any, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> TokenLayout | None:
    """Returns the layout of torchvision's vision transformer; None for any other model."""
    if not is_vision_transformer(model):
        return None
    images: Any = inputs[0] if inputs else kwargs.get("x")
    height, width = check_image(type(model).__name__, images, (model.image_size, model.image_size))
    return TokenLayout.image(len(images), (height // model.patch_size, width // model.patch_size), [Role.CLASS])


def text_layout(tensor: Tensor, batch_first: bool, padding: Tensor | None = None) -> TokenLayout:
    """Returns a layout of text tokens, with padding where its mask is true or minus infinity."""
    if padding is None:
        return TokenLayout.text(torch.ones(_sizes(tensor, batch_first)))
    absent = padding if padding.dtype == torch.bool else padding == float("-inf")
    return TokenLayout.text(~absent.cpu().reshape(_sizes(tensor, batch_first)))


def check_tokens(call: Mapping[str, Any], batch_first: bool, kind: StackKind, given: Tensor | None) -> None:
    """Checks that the tokens of a layer's call can be those of the model's input.

    Args:
        call: the arguments of the layer, by name.
        batch_first: of the layer.
        kind: of the layer.
        given: the first tensor that the model was given.

    Raises:
        AttentionError: self-attention whose queries are not its keys, or a batch of another size than the model's.
    """
    query, key = call["query"], call["key"]
    if kind != "cross" and query is not key and (query.shape != key.shape or not torch.equal(query, key)):
        raise AttentionError(
            f"a layer taken for self-attention has queries {tuple(query.shape)} that are not its keys {tuple(key.shape)}.",
            'If it attends to other tokens, choose it by layers=… and reading=ac.Reading(kind="cross"). If these'
            " are the same tokens under another normalisation or position, give their layout:"
            " reading=ac.Reading(tokens=TokenLayout(…)).",
        )
    batch = _sizes(key, batch_first)[0]
    if given is not None and key.ndim == 3 and batch not in given.shape[: 1 if batch_first else 2]:
        raise AttentionError(
            f"a layer attends within a batch of {batch}, and the model was given {tuple(given.shape)}: windows or frames are"
            " folded into the batch.",
            f"To read each as a chain of its own, pass their layout: reading=ac.Reading(tokens=…), of batch {batch}.",
        )


def _sizes(tensor: Tensor, batch_first: bool) -> tuple[int, int]:
    """Returns (batch, tokens) of an argument of a module."""
    if tensor.ndim == 2:
        return 1, tensor.shape[0]
    return (tensor.shape[0], tensor.shape[1]) if batch_first else (tensor.shape[1], tensor.shape[0])
