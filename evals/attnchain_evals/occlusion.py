"""What a removed patch is replaced by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, final

import torch
from torch import Tensor

from attnchain_interp import AttentionError


class Occlusion(Protocol):
    """Turns images (batch, channel, height, width) into what is seen where they are removed, in the same space."""

    def __call__(self, images: Tensor) -> Tensor: ...


@final
@dataclass(frozen=True)
class MeanColour:
    """Each image's own mean colour. In whatever space the images are: the mean is the same before normalisation."""

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean((2, 3), keepdim=True).expand_as(images)


@final
@dataclass(frozen=True)
class Blur:
    """Each image blurred by a Gaussian; colours stay about right and edges vanish.

    Attributes:
        sigma: in pixels; an eighth of the shorter side when None. Weaker blurs leave small objects legible, and then
            insertion starts from an image that already shows the class.
    """

    sigma: float | None = None

    def __call__(self, images: Tensor) -> Tensor:
        from scipy.ndimage import gaussian_filter

        sigma = min(images.shape[-2:]) / 8 if self.sigma is None else self.sigma
        blurred = gaussian_filter(images.cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
        return torch.from_numpy(blurred).to(images)


NAMED: Final[dict[str, Occlusion]] = {"mean": MeanColour(), "blur": Blur()}


def occlusion_named(occlusion: str | Occlusion) -> Occlusion:
    """The occlusion itself, or the one of that name.

    Raises:
        AttentionError: an unknown name.
    """
    if not isinstance(occlusion, str):
        return occlusion
    if occlusion not in NAMED:
        raise AttentionError(
            f"occlusion={occlusion!r} is unknown; use {' or '.join(map(repr, NAMED))}, or pass a callable images → images."
        )
    return NAMED[occlusion]
