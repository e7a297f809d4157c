"""The tokens that a vision transformer without its head returns."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from attnchain_evals.tasks.digest import model_identity
from attnchain_interp import AttentionError, Role, capture
from attnchain_interp.checks import check_one_of

Pooling = Literal["class", "mean", "class+mean"]
_FIX: Final = "Take a vision transformer of transformers or timm."


class Places(NamedTuple):
    """The place of the class token (None without one), and of the first patch; patches are the last tokens."""

    of_class: int | None
    of_patches: int

    def features(self, tokens: Tensor, pooling: Pooling) -> Tensor:
        """Returns the features (batch, width) of tokens (batch, token, width): of "class+mean", one after the other."""
        parts = {"mean": tokens[:, self.of_patches :].mean(1)}
        if self.of_class is not None:
            parts["class"] = tokens[:, self.of_class]
        return torch.cat([parts[part] for part in pooling.split("+")], 1)

    def pooling(self, wanted: Pooling | None) -> Pooling:
        """Returns the pooling that is wanted; when None, the class token where there is one, else the mean of the patches."""
        if wanted is None:
            return "mean" if self.of_class is None else "class"
        check_one_of("pooling", wanted, get_args(Pooling))
        if self.of_class is None and "class" in wanted:
            raise AttentionError(f"pooling={wanted!r} reads a class token, and the backbone has none.", 'Use pooling="mean".')
        return wanted


def backbone_of(model: nn.Module) -> nn.Module:
    """Returns the model without its head, in eval mode: images → tokens.

    That of transformers is `base_model`. That of timm is a copy whose head and pooling are taken off. Others are returned as
    they are.
    """
    if callable(getattr(model, "reset_classifier", None)):
        copy: Any = deepcopy(model)
        copy.reset_classifier(0, "")
        return copy.eval()
    inner = getattr(model, "base_model", model)
    return inner.eval() if isinstance(inner, nn.Module) else model.eval()


def tokens_of(backbone: nn.Module, images: Tensor) -> Tensor:
    """Returns the tokens (batch, token, width) of images."""
    output = backbone(images)
    tokens = getattr(output, "last_hidden_state", output)
    if not isinstance(tokens, Tensor) or tokens.ndim != 3:
        came = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(output).__name__
        raise AttentionError(f"{type(backbone).__name__} returns {came}; a probe needs (batch, token, width).", _FIX)
    return tokens


@torch.no_grad()
def places_of(backbone: nn.Module, image: Tensor) -> Places:
    """Returns the places of the class token and of the patches in the tokens of an image (1, channel, height, width)."""
    roles = capture(backbone, image, layers=-1).tokens.roles[0]
    count = tokens_of(backbone, image).shape[1]
    first = next((place for place, role in enumerate(roles) if role == Role.PATCH), len(roles))
    if count != len(roles) or first == len(roles) or any(role != Role.PATCH for role in roles[first:]):
        raise AttentionError(
            f"{type(backbone).__name__} returns {count} tokens and attends to {len(roles)}, of which the patches should be the"
            " last.",
            _FIX,
        )
    return Places(next((place for place, role in enumerate(roles) if role == Role.CLASS), None), first)


def identity_of(backbone: nn.Module) -> dict[str, str]:
    """Returns the class and the sha256 of a backbone, wherever it runs."""
    return {name: value for name, value in model_identity(backbone).items() if name != "device"}
