"""The sequences of tokens inside a denoiser: image alone, text and image in one, or an image that attends to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final, get_args

import torch
from torch import Tensor

from attnchain_adapters.diffusers_models.families import FAMILIES, Family
from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.checks import check_one_of
from attnchain_interp.diffusion import SequenceKind
from attnchain_interp.store import Grid

ADVICE: Final = (
    "Its attention processor shows none (xFormers, a sliced or a third-party kernel). Use diffusers' own:"
    " reset_attention_backend(), disable_xformers_memory_efficient_attention(), disable_attention_slicing() or"
    " set_default_attn_processor(). A cache or a guidance that skips layers shows none either: call disable_cache(), take off"
    " such hooks, or choose forwards that run all layers, such as steps=[0]."
)


@final
@dataclass(frozen=True)
class TokenSequence:
    """The attention layers that share their queries and keys.

    Attributes:
        kind: "joint", text and image in one sequence; "self", the image alone; "cross", from the image to the text.
        grid: (rows, columns) of the image's tokens.
        layers: names of the modules, in the order of the model.
    """

    kind: SequenceKind
    grid: Grid
    layers: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f'kind="{self.kind}", grid={self.grid}'


def family_of(model: Any) -> Family:
    """Returns the family of a denoiser.

    Raises:
        AttentionError: its class is not known.
    """
    name = type(getattr(model, "_orig_mod", model)).__name__
    if name not in FAMILIES:
        raise AttentionError(
            f"{name} has not been tried, so nothing says that its maps would be right.",
            f"Use one of {', '.join(FAMILIES)}.",
        )
    return FAMILIES[name]


def sequences_of(model: Any, given: Mapping[str, Any]) -> list[TokenSequence]:
    """Returns every sequence of a denoiser called with these arguments.

    Raises:
        AttentionError: the denoiser is not known, or its attention is not a chain.
    """
    family, found = family_of(model), {}
    for name, module in attention_modules(model).items():
        if name.endswith(".fuser.attn"):  # of GLIGEN: from the image to itself and to boxes
            continue
        kind, grid = _kind(module, family, name), family.grids(model, given, name)
        found.setdefault((kind, grid), TokenSequence(kind, grid)).layers.append(name)
    if not found:
        raise AttentionError(f"this {type(model).__name__} holds no attention module.")
    return list(found.values())


def sequence_meant(sequences: Sequence[TokenSequence], name: str, kind: str | None, grid: Grid | None) -> TokenSequence:
    """Returns the sequence of this kind and grid. A kind of None never means cross-attention.

    Raises:
        AttentionError: an unknown kind, no such sequence, or several.
    """
    if kind is not None:
        check_one_of("kind", kind, get_args(SequenceKind))
    meant = [each for each in sequences if grid is None or each.grid == (tuple(grid) if isinstance(grid, Sequence) else grid)]
    meant = [each for each in meant if (each.kind == kind if kind else each.kind != "cross")]
    if len(meant) == 1:
        return meant[0]
    there = "; ".join(map(str, sequences))
    if not meant:
        raise AttentionError(f"{name} has no attention of kind={kind!r}, grid={grid}.", f"Choose one of {there}.")
    raise AttentionError(
        f"{name} has several sequences.", f"Say which is meant: {there}. In ac.capture, write reading=ac.Reading(…) with them."
    )


def attention_modules(model: Any) -> dict[str, Any]:
    """Returns the modules that hold an attention processor, by name, in the order in which the model runs them."""
    family_of(model)
    found = {
        name: module for name, module in model.named_modules() if hasattr(module, "processor") and hasattr(module, "heads")
    }
    return dict(sorted(found.items(), key=lambda each: each[0].startswith("up_blocks.")))  # a UNet lists its middle block last


def layouts_of(
    model: Any, sequence: TokenSequence, given: Mapping[str, Any], labels: Sequence[list[str]] | None = None
) -> tuple[TokenLayout, TokenLayout | None]:
    """Returns the layout of the keys, and of the queries where these are other tokens (cross-attention).

    Args:
        model, sequence, given: the denoiser, which of its sequences, and the arguments that it is called with.
        labels: of the text's tokens, for each example of the batch.

    Raises:
        AttentionError: labels of another number than the text's tokens.
    """
    family = family_of(model)
    batch = given[family.sample].shape[0]
    patches = torch.full((batch, sequence.grid[0] * sequence.grid[1]), int(Role.PATCH), dtype=torch.uint8, device="cpu")
    if sequence.kind == "self":
        return TokenLayout(patches, sequence.grid), None
    text = _text_roles(given, batch)
    if labels is not None and len(labels[0]) != text.shape[1]:
        raise AttentionError(
            f"there are {len(labels[0])} labels for {text.shape[1]} text tokens.", "Pass one for each of them."
        )
    if sequence.kind == "cross":
        return TokenLayout(text, labels=None if labels is None else list(labels)), TokenLayout(patches, sequence.grid)
    first = family.joint == "text first"
    blank = [""] * patches.shape[1]
    named = None if labels is None else [[*own, *blank] if first else [*blank, *own] for own in labels]
    return TokenLayout(torch.cat([text, patches] if first else [patches, text], 1), sequence.grid, named), None


def condition_of(given: Mapping[str, Any]) -> Tensor | None:
    """Returns that by which a forward is conditioned: the text (batch, token, width), or the classes (batch).

    IP-Adapter puts the embeddings of its images behind the text, in a tuple.
    """
    text = given.get("encoder_hidden_states")
    text = text[0] if isinstance(text, tuple | list) else text
    return given.get("class_labels") if text is None else text


def _text_roles(given: Mapping[str, Any], batch: int) -> Tensor:
    """(batch, token): text, and padding where the model is told not to attend to it."""
    states = condition_of(given)
    if not isinstance(states, Tensor) or states.ndim != 3:
        raise AttentionError("the denoiser was called without a text.", "Pass encoder_hidden_states=(batch, token, width).")
    roles = torch.full((batch, states.shape[1]), int(Role.TEXT), dtype=torch.uint8, device="cpu")
    mask = text_mask(given)
    return roles if mask is None else roles.masked_fill(~mask, int(Role.PAD))


def text_mask(given: Mapping[str, Any]) -> Tensor | None:
    """Returns (batch, token): which text tokens a forward attends to. None where it is given no mask.

    A mask is (batch, token); a mask of three axes is added to the scores: 0 where a token is attended to.
    """
    mask = given.get("encoder_attention_mask")
    return None if mask is None else (mask[:, 0] == 0 if mask.ndim == 3 else mask.bool()).cpu()


def _kind(module: Any, family: Family, name: str) -> SequenceKind:
    if type(module.processor).__name__.startswith("CrossFrame"):
        raise AttentionError(
            f"{name!r} attends from each frame of a video to the first frame (Text2Video-Zero), which is not a chain.",
            "Use a pipeline of images.",
        )
    added = getattr(module, "added_kv_proj_dim", None) is not None
    if added and not family.joint:
        raise AttentionError(
            f"{name!r} attends from the image to text and image together (added keys), which is neither a chain nor"
            " cross-attention; models built so (DeepFloyd IF, unCLIP) are not read."
        )
    if added or (type(module).__name__ == "FluxAttention" and family.joint):
        return "joint"
    return "cross" if getattr(module, "is_cross_attention", False) else "self"
