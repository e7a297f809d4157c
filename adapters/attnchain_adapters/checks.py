"""What every adapter checks, before the forward and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnchain_adapters.recording import AttentionRecorder
from attnchain_interp import AttentionError, TokenLayout


def refuse_dropout(model: nn.Module) -> None:
    """
    Raises:
        AttentionError: the model is in train mode and has dropout, so that its attention is random.
    """
    rates = ("p", "drop_prob", "attention_dropout", "dropout", "dropout_prob")
    for name, module in model.named_modules():
        active = [rate for rate in rates if isinstance(value := getattr(module, rate, None), float) and value > 0]
        if module.training and active:
            raise AttentionError(
                f"the model is in train mode with dropout ({name or type(model).__name__}.{active[0]} ="
                f" {getattr(module, active[0])}), so its attention is random and rows do not sum to one. Call model.eval()"
                " first."
            )


def check_image(model_name: str, images: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of a batch of images, checked against the size that the model wants (None: any).

    Raises:
        AttentionError: no floating-point tensor (batch, channel, height, width), or another size.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        came = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise AttentionError(
            f"{model_name} takes images as a floating-point tensor (batch, channel, height, width); got {came}."
        )
    height, width = images.shape[-2:]
    if size is not None and (height, width) != size:
        raise AttentionError(
            f"the images are {height}×{width} but {model_name} wants {size[0]}×{size[1]}; resize them (F.interpolate or the"
            " model's own preprocessing)."
        )
    return height, width


def check_text(model_name: str, ids: Any, mask: Any) -> TokenLayout:
    """The layout of a batch of token numbers (batch, token), padding where the attention mask (batch, token) is zero.

    Raises:
        AttentionError: no such tensor, or a mask of another shape.
    """
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        came = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise AttentionError(f"{model_name} takes token numbers as an integer tensor (batch, token); got {came}.")
    if mask is None:
        mask = torch.ones_like(ids)
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        came = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise AttentionError(f"attention_mask must be a tensor of shape {tuple(ids.shape)}, as the token numbers; got {came}.")
    return TokenLayout.text(mask.cpu())


def check_shown(recorder: AttentionRecorder, wanted: Sequence[str], advice: str) -> None:
    """
    Raises:
        AttentionError: a watched module has shown no attention; `advice` says what to do.
    """
    absent = [name for name in wanted if name not in recorder.routes]
    if absent:
        raise AttentionError(
            f"{len(absent)} of {len(wanted)} attention layers showed no map (the first: {absent[0]!r}). {advice}"
        )
