"""The checks of every adapter, before the forward and after it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.capture import check_settled

# names of modules of cross-attention
CROSS_ATTENTION: Final = frozenset(
    ("cross_attention", "cross_attn", "crossattention", "encoder_attn", "EncDecAttention", "multihead_attn")
)


def check_ready(model: nn.Module) -> None:
    """Checks that a model has its weights and computes the same attention each time.

    Raises:
        AttentionError: the model has no weights yet (it is on the meta device), or as `check_settled`.
    """
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if absent and not any(hasattr(module, "_hf_hook") for module in model.modules()):
        raise AttentionError(
            f"the model is on the meta device ({absent[0]} and {len(absent) - 1} more have no weights).",
            "Load the weights first: from_pretrained(…) without device_map='meta', or model.to_empty(device='cpu') and"
            " load_state_dict.",
        )
    check_settled(model)


def arguments_of(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], runs: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """Returns the arguments by name of a model's forward, or of the method of it that `runs`.

    The signature is that of its class: wrappers replace the model's own.
    """
    method = getattr(type(model), getattr(runs, "__name__", "forward"), type(model).forward)
    return dict(inspect.signature(method).bind_partial(model, *inputs, **kwargs).arguments) | dict(kwargs)


def takes_hooks(module: nn.Module) -> bool:
    """Returns whether a module takes hooks: a scripted transform of images takes none."""
    return not isinstance(module, torch.jit.ScriptModule)


def is_run_by(module: nn.Module, method: str, framework: str, argument: str) -> bool:
    """Returns whether a method of a module is the framework's own, or one of a user's that takes the argument by its name."""
    function = getattr(type(module), method, None)
    if function is None:
        return False
    return function.__module__.split(".")[0] == framework or argument in inspect.signature(function).parameters


def check_image(
    model_name: str, images: Any, size: tuple[int, int] | None, otherwise: str = "or the model's own preprocessing"
) -> tuple[int, int]:
    """Returns height and width of a batch of images, which must be those that the model wants (None: any).

    The error about another size says to resize the images, or `otherwise`.

    Raises:
        AttentionError: no floating-point tensor (batch, channel, height, width), or another size.
    """
    check_floats(model_name, images, "images", "(batch, channel, height, width)", 4)
    channels, height, width = images.shape[1:]
    if width in (1, 3) and width < channels:
        raise AttentionError(
            f"the images have shape {tuple(images.shape)}, channels last; {model_name} takes (batch, channel, height, width).",
            "Pass images.permute(0, 3, 1, 2).",
        )
    if size is not None and (height, width) != size:
        raise AttentionError(
            f"the images are {height}×{width} but {model_name} wants {size[0]}×{size[1]}.",
            f"Resize them: F.interpolate, {otherwise}.",
        )
    return height, width


def check_floats(model_name: str, tensor: Any, what: str, axes: str, ndim: int) -> None:
    """Checks that an argument is a floating-point tensor of `ndim` axes.

    Raises:
        AttentionError: another argument.
    """
    if not isinstance(tensor, Tensor) or tensor.ndim != ndim or not tensor.is_floating_point():
        fix = f"Pass a tensor {axes}."
        if isinstance(tensor, Tensor) and tensor.ndim == ndim - 1 and tensor.is_floating_point():
            fix = f"Pass {what}[None], a batch of one."
        elif isinstance(tensor, Tensor) and tensor.ndim == ndim:
            fix = f"Pass {what} of floating point, as the model's own preprocessing makes them."
        raise AttentionError(f"{model_name} takes {what} as a floating-point tensor {axes}; got {described(tensor)}.", fix)


def check_text(
    model_name: str,
    ids: Any,
    mask: Any = None,
    embeddings: Any = None,
    special: Iterable[int] = (),
    class_first: bool = False,
    tokenizer: Any = None,
) -> TokenLayout:
    """Returns the layout of a batch of token numbers (batch, token), padding where the attention mask (batch, token) is zero.

    Args:
        model_name: for messages.
        ids: token numbers; None where the model was given embeddings.
        mask: the attention mask; None for none.
        embeddings: (batch, token, width), in place of numbers.
        special: token numbers with the role special.
        class_first: the first token that is not padding is the class token.
        tokenizer: gives the labels, where there are token numbers, and the special tokens.

    Raises:
        AttentionError: no such tensor, or a mask of another shape.
    """
    if ids is None and isinstance(embeddings, Tensor) and embeddings.ndim == 3:
        ids = torch.full(embeddings.shape[:2], -1, device="cpu")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        raise AttentionError(
            f"{model_name} takes token numbers as an integer tensor (batch, token); got {described(ids)}.",
            'Pass the tensors of the tokenizer by their names: **tokenizer(text, return_tensors="pt").',
        )
    ids = ids.cpu()
    if mask is None:
        mask = torch.ones_like(ids)
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        came = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        per_query = isinstance(mask, Tensor) and mask.ndim > 2
        raise AttentionError(
            f"attention_mask must be a tensor of shape {tuple(ids.shape)}, as the token numbers; got {came}.",
            "Pass the attention_mask of the tokenizer, or none."
            + (f" A mask of each query says no padding. {tokens_advice(TokenLayout.text())}" if per_query else ""),
        )
    mask = mask.cpu().bool()
    special = list(special) if tokenizer is None else list(tokenizer.all_special_ids)
    roles = torch.where(
        torch.isin(ids, torch.tensor(special, dtype=ids.dtype, device="cpu")), int(Role.SPECIAL), int(Role.TEXT)
    )
    if class_first:
        roles[mask & (mask.cumsum(1) == 1)] = Role.CLASS
    labels = None
    if tokenizer is not None and not bool((ids < 0).any()):  # embeddings, and tokens that the model makes, have no number
        labels = [tokenizer.convert_ids_to_tokens(row.tolist()) for row in ids]
    return TokenLayout(roles.masked_fill(~mask, Role.PAD), labels=labels)


def check_shown(routes: Iterable[str], wanted: Sequence[str], advice: str) -> None:
    """Checks that every wanted layer has shown its attention.

    Raises:
        AttentionError: a layer has not. `advice` is the fix.
    """
    absent = [name for name in wanted if name not in set(routes)]
    if absent:
        raise AttentionError(
            f"{len(absent)} of {len(wanted)} attention layers showed no map (the first: {absent[0]!r}).", advice
        )


def tokens_advice(tokens: TokenLayout | None = None) -> str:
    """Returns the fix for attention that a family does not know: the line that reads a model by what it computes."""
    written = "reading=ac.Reading(tokens=ac.{})".format
    if tokens is None:
        image, text = written("TokenLayout.image(grid=(rows, columns), class_token=True)"), written("TokenLayout.text()")
        return f"Read the model by what it computes: {image} of images, {text} of text."
    return f"Read the model by what it computes: {written(tokens.written)}."


def described(value: Any) -> str:
    """Returns a tensor's type and shape, or the type of anything else."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def in_place_of(modules: Mapping[str, nn.Module], names: Iterable[str], framework: str) -> dict[str, nn.Module]:
    """Returns the modules of these names, and modules of other packages whose names differ from one of them by numbers alone.

    A user who gives one block another attention class (`model.blocks[-1].attn = SelfSelf(…)`) puts it in the place of a
    module that the framework's family knows.
    """
    known = set(names)
    patterns = {_pattern(name) for name in known}
    return {
        name: module
        for name, module in modules.items()
        if name in known or (type(module).__module__.split(".")[0] not in (framework, "torch") and _pattern(name) in patterns)
    }


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)
