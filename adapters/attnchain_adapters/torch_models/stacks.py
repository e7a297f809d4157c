"""The modules of `nn.MultiheadAttention` in a model, by kind: of an encoder, of a decoder, cross-attention."""

from __future__ import annotations

from typing import Any, Final, get_args

from torch import nn

from attnchain_adapters.checks import CROSS_ATTENTION
from attnchain_interp import AttentionError
from attnchain_interp.capture import StackKind
from attnchain_interp.checks import check_one_of

_WINDOWS: Final = "attends within windows, which are folded into the batch; a walk over the image cannot cross them"
REFUSED: Final = {
    "torchvision.models.swin_transformer.SwinTransformer": _WINDOWS,
    "torchvision.models.video.swin_transformer.SwinTransformer3d": _WINDOWS,
    "torchvision.models.maxvit.MaxVit": _WINDOWS,
    "torchvision.models.video.mvit.MViT": "pools its queries and keys, so its maps are rectangular",
}
_ELSEWHERE: Final = {"timm", "transformers", "diffusers"}  # frameworks whose models have adapters of their own


def classes_of(model: nn.Module) -> list[str]:
    """Returns the full names of a model's class and of its base classes."""
    return [f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__]


def check_kind(kind: Any) -> StackKind | None:
    """Returns the kind that was asked for. Refuses unknown kinds."""
    if kind is not None:
        check_one_of("kind", kind, get_args(StackKind))
    return kind


def modules_meant(model: nn.Module, kind: StackKind | None) -> list[str]:
    """Returns the names of the attention modules of a kind. A kind of None never means cross-attention beside other kinds.

    Raises:
        AttentionError: a model that is refused; no module of the kind, or several kinds; modules with an extra key, or modules
            of another framework's model.
    """
    for each in classes_of(model):
        if each in REFUSED:
            raise AttentionError(f"{each} {REFUSED[each]}. There is no chain over its tokens to capture.")
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    kinds = {name: kind_of(model, name) for name in found}
    there = sorted({each or "encoder" for each in kinds.values()})
    options = " or ".join(f'kind="{each}"' for each in there)
    asked = {kind} if kind else set(there) - {"cross"} or {"cross"}
    if len(asked) > 1:
        raise AttentionError(
            f"{type(model).__name__} has several sequences.", f"Say which is meant, reading=ac.Reading(…) with {options}."
        )
    if kind or "encoder" in asked:
        asked |= {None}
    chosen = [name for name in found if kinds[name] in asked]
    if not chosen:
        raise AttentionError(f'{type(model).__name__} has no attention of kind="{kind}".', f"It has {options}.")
    for name in chosen:
        _check(model, name, found[name])
    return chosen


def kind_of(model: nn.Module, name: str) -> StackKind | None:
    """Returns the kind of a module, from its name and from the module around it; None where neither tells."""
    parent, _, own = name.rpartition(".")
    around = model.get_submodule(parent)
    if own in CROSS_ATTENTION:
        return "cross"
    if isinstance(around, nn.TransformerDecoderLayer):
        return "decoder"
    return "encoder" if isinstance(around, nn.TransformerEncoderLayer) else None


def _check(model: nn.Module, name: str, module: nn.MultiheadAttention) -> None:
    parts = name.split(".")
    for around in (".".join(parts[:k]) for k in range(len(parts))):
        owner = type(model.get_submodule(around))
        framework = owner.__module__.split(".")[0]
        if framework in _ELSEWHERE:
            raise AttentionError(
                f"{name} belongs to {around or 'a model'}, a {owner.__name__} of {framework}, which has its own adapter.",
                f"Import {framework} first, and capture that module.",
            )
    if module.bias_k is not None or module.add_zero_attn:
        option = "add_bias_kv" if module.bias_k is not None else "add_zero_attn"
        raise AttentionError(
            f"{name} was made with {option}=True, which adds a key that is not a token. Its maps are rectangular, and rows"
            " over the tokens do not sum to one.",
            f"Make the module without {option}.",
        )
