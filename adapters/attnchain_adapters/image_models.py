"""What every adapter of image models needs: checks before the forward, the store after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from attnchain_adapters.recording import MapRecorder
from attnchain_interp import AttentionError, AttentionStore, LayerAttention, Role, TokenLayout


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


def image_store(
    recorder: MapRecorder,
    wanted: Sequence[str],
    prefix: Sequence[Role],
    grid: tuple[int, int],
    metadata: dict[str, str],
    advice: str,
) -> AttentionStore:
    """The store of what was recorded, tokens being `prefix` and then the patches of `grid`.

    Raises:
        AttentionError: a watched module has shown no map (`advice` says what to do), or the tokens are not
            prefix + patches.
    """
    absent = [name for name in wanted if name not in recorder.maps]
    if absent:
        raise AttentionError(
            f"{len(absent)} of {len(wanted)} attention layers showed no map (the first: {absent[0]!r}). {advice}"
        )
    batch, _, _, count = recorder.maps[wanted[0]].shape
    if count != len(prefix) + grid[0] * grid[1]:
        raise AttentionError(
            f"{metadata['model']} attends over {count} tokens, not {len(prefix)} + {grid[0]}×{grid[1]}: its sequence is no"
            " image grid behind the usual prefix, so scores could not be put back onto the image."
        )
    routes = ", ".join(sorted(set(recorder.routes.values())))
    layers = [LayerAttention(name, recorder.maps[name]) for name in wanted]
    return AttentionStore(layers, TokenLayout.image(batch, grid, prefix), {**metadata, "route": routes})
