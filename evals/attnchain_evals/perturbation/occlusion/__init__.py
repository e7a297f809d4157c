"""Ways to remove a part of an input: one class for each, which states its space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import Tensor

from attnchain_evals.perturbation.occlusion.noisy_linear import NoisyLinear
from attnchain_evals.perturbation.occlusion.occlusion import Occlusion, View
from attnchain_evals.perturbation.occlusion.replacements import (
    Black,
    Blur,
    KernelBlur,
    MeanColour,
    Replacement,
    ReplaceWith,
    Zero,
)
from attnchain_evals.perturbation.occlusion.text import MeanEmbedding, PadToken, ReplaceToken, TokenDelete
from attnchain_evals.perturbation.occlusion.tokens import AttentionMask, MaskToken, TokenDrop
from attnchain_interp import AttentionError

NAMED: Final[dict[str, Occlusion]] = {
    occlusion.name: occlusion
    for occlusion in (
        *(MeanColour(), Blur(), Zero(), NoisyLinear(), TokenDrop(), AttentionMask(), MaskToken()),
        *(TokenDelete(), PadToken(), MeanEmbedding()),
    )
}


def occlusion_named(occlusion: str | Occlusion | Callable[[Tensor], Tensor]) -> Occlusion:
    """Returns the occlusion: itself, the one of that name, or the one that replaces inputs by the output of a function."""
    if isinstance(occlusion, Occlusion):
        return occlusion
    if not isinstance(occlusion, str):
        return ReplaceWith(occlusion)
    if occlusion not in NAMED:
        raise AttentionError(
            f"occlusion={occlusion!r} is unknown.",
            f"Use {', '.join(map(repr, NAMED))}, an occlusion such as Black(mean, std), or a callable inputs → inputs.",
        )
    return NAMED[occlusion]


__all__ = [
    "AttentionMask",
    "Black",
    "Blur",
    "KernelBlur",
    "MaskToken",
    "MeanColour",
    "MeanEmbedding",
    "NoisyLinear",
    "Occlusion",
    "PadToken",
    "ReplaceToken",
    "ReplaceWith",
    "Replacement",
    "TokenDelete",
    "TokenDrop",
    "View",
    "Zero",
    "occlusion_named",
]
