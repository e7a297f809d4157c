"""Ways to remove a part of an input: one class for each, which states its space."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from torch import Tensor

from attnchain_evals.perturbation.occlusion.noisy_linear import NoisyLinear as NoisyLinear
from attnchain_evals.perturbation.occlusion.replacements import Black as Black
from attnchain_evals.perturbation.occlusion.replacements import Blur as Blur
from attnchain_evals.perturbation.occlusion.replacements import KernelBlur as KernelBlur
from attnchain_evals.perturbation.occlusion.replacements import MeanColour as MeanColour
from attnchain_evals.perturbation.occlusion.replacements import Occlusion as Occlusion
from attnchain_evals.perturbation.occlusion.replacements import Replacement as Replacement
from attnchain_evals.perturbation.occlusion.replacements import ReplaceWith as ReplaceWith
from attnchain_evals.perturbation.occlusion.replacements import View as View
from attnchain_evals.perturbation.occlusion.replacements import Zero as Zero
from attnchain_evals.perturbation.occlusion.text import MeanEmbedding as MeanEmbedding
from attnchain_evals.perturbation.occlusion.text import PadToken as PadToken
from attnchain_evals.perturbation.occlusion.text import ReplaceToken as ReplaceToken
from attnchain_evals.perturbation.occlusion.text import TokenDelete as TokenDelete
from attnchain_evals.perturbation.occlusion.tokens import AttentionMask as AttentionMask
from attnchain_evals.perturbation.occlusion.tokens import MaskToken as MaskToken
from attnchain_evals.perturbation.occlusion.tokens import TokenDrop as TokenDrop
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
        if not isinstance(occlusion, Hashable):
            raise AttentionError(
                f"occlusion is a {type(occlusion).__name__}, which has no hash, so its results could not be shared.",
                f"Write @dataclass(frozen=True) above the class {type(occlusion).__name__}.",
            )
        return occlusion
    if isinstance(occlusion, type) and issubclass(occlusion, Occlusion):
        raise AttentionError(
            f"occlusion is the class {occlusion.__name__}.", f"Make one of it: occlusion={occlusion.__name__}(…)."
        )
    if callable(occlusion):
        return ReplaceWith(occlusion)
    if not isinstance(occlusion, str) or occlusion not in NAMED:
        raise AttentionError(
            f"occlusion={occlusion!r} is unknown.",
            f"Use {', '.join(map(repr, NAMED))}, an occlusion such as Black(mean, std), or a callable inputs → inputs.",
        )
    return NAMED[occlusion]
