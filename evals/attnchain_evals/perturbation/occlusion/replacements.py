"""The base class of occlusions, and those that replace the removed parts of an input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.perturbation.class_score import next_logits
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_whole_number
from attnchain_interp.operators import float32_or_wider, full_precision
from attnchain_interp.reprs import brief

View = Callable[[Tensor, Tensor], Any]
"""A callable: numbers of examples (pair,), and (pair, height, width) or (pair, token) bool, true where removed → the model's
output."""


class Occlusion(ABC):
    """A way to remove a part of an input.

    Attributes:
        name: "mean". Names of metrics contain it.
        space: where the removal happens: the model's input, the image before normalisation, or the model's tokens.
        axes: the number of axes of the inputs that it takes: 4 for images (batch, channel, height, width), 2 for texts (batch,
            token).
    """

    name: ClassVar[str]
    space: ClassVar[str]
    axes: ClassVar[frozenset[int]] = frozenset({4})

    @abstractmethod
    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        """Returns a callable that runs the model on these inputs with parts removed. Work that all parts share is done once.

        Args:
            model: inputs → logits.
            inputs: (batch, channel, height, width), or token numbers (batch, token).
            first: the number of the first input in the data. Randomness is seeded by the number of an input.

        Raises:
            AttentionError: the model does not allow this kind of removal.
        """


class Replacement(Occlusion):
    """A callable that turns inputs into their replacement, of the same shape and in the same space."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor: ...

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        replacement = self(inputs)
        if not isinstance(replacement, Tensor) or replacement.ndim != inputs.ndim or len(replacement) != len(inputs):
            raise AttentionError(
                f"the occlusion {self.name} gives {brief(replacement)} for inputs {tuple(inputs.shape)}.",
                "Return the replacement of each input, as a tensor of their shape.",
            )

        def view(examples: Tensor, removed: Tensor) -> Any:
            where = removed[:, None] if inputs.ndim == 4 else removed
            left = torch.where(where, replacement[examples], inputs[examples])
            if inputs.ndim == 4:
                return model(left)
            check_ends(model, inputs[examples][removed & (left != inputs[examples])])
            return next_logits(model, left)

        return view


def check_ends(model: Any, removed: Tensor) -> None:
    """Refuses to remove tokens (token,) at which a classifier of encoder and decoder reads its class: ends of texts."""
    config, head = getattr(model, "config", None), getattr(model, "get_output_embeddings", lambda: None)()
    ends = getattr(config, "eos_token_id", None)
    if getattr(config, "is_encoder_decoder", False) and head is None and ends is not None:
        lost = removed[torch.isin(removed, torch.tensor(ends, device=removed.device))]
        if len(lost):
            raise AttentionError(
                f"{type(model).__name__} reads its class at the end of a text, the token {int(lost[0])}, and the features"
                " remove it.",
                'Give that token −1 in a label map: features=labels. Or take "mean-embedding".',
            )


@final
@dataclass(frozen=True)
class ReplaceWith(Replacement):
    """Replaces removed parts by the output of a function.

    Attributes:
        function: inputs → replacement, both (batch, channel, height, width) or (batch, token).
    """

    function: Callable[[Tensor], Tensor]
    name = "function"
    space = "the space of the function"
    axes = frozenset({2, 4})

    def __call__(self, images: Tensor) -> Tensor:
        return self.function(images)


@final
@dataclass(frozen=True)
class MeanColour(Replacement):
    """Replaces removed pixels by the image's own mean colour."""

    name = "mean"
    space = "any that is affine in the colours: the mean is the same before and after normalisation"

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean((2, 3), keepdim=True).expand_as(images)


@final
@dataclass(frozen=True)
class Zero(Replacement):
    """Replaces removed pixels by zero in the model's input.

    For images that are normalised by the data set's mean this is the mean colour of the data set, for others black.
    """

    name = "zero"
    space = "the model's input, after normalisation"

    def __call__(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images)


@final
@dataclass(frozen=True)
class Black(Replacement):
    """Replaces removed pixels by black: zero before normalisation, (0 − mean) / std in the model's input.

    Attributes:
        mean, std: of the normalisation, one number per channel; (0, 0, 0) and (1, 1, 1) without normalisation.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    name = "black"
    space = "the image, before normalisation"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            try:
                numbers = tuple(float(each) for each in getattr(self, name))
            except (TypeError, ValueError):
                raise AttentionError(
                    f"{name} is {getattr(self, name)!r}; it is a sequence of numbers, one per channel.",
                    f"Pass {name}=(0.5, 0.5, 0.5).",
                ) from None
            object.__setattr__(self, name, numbers)

    def __call__(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        if len(self.mean) != channels or len(self.std) != channels or not all(deviation > 0 for deviation in self.std):
            raise AttentionError(
                f"mean={self.mean} and std={self.std} are not a normalisation of images of {channels} channels.",
                "Pass one number per channel, std above 0.",
            )
        mean, std = (torch.tensor(values).to(images)[None, :, None, None] for values in (self.mean, self.std))
        return (-mean / std).expand_as(images)


@final
@dataclass(frozen=True)
class Blur(Replacement):
    """Replaces removed pixels by those of the image blurred by a Gaussian. Colours stay about right, and edges vanish.

    Attributes:
        sigma: in pixels; an eighth of the shorter side when None. A weaker blur leaves small objects legible: insertion then
            starts from an image that already shows the class.
    """

    sigma: float | None = None
    name = "blur"
    space = "any that is affine in the colours"

    def __call__(self, images: Tensor) -> Tensor:
        from scipy.ndimage import gaussian_filter

        sigma = min(images.shape[-2:]) / 8 if self.sigma is None else self.sigma
        blurred = gaussian_filter(float32_or_wider(images).cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
        return torch.from_numpy(blurred).to(images)


@final
@dataclass(frozen=True)
class KernelBlur(Replacement):
    """Replaces removed pixels by those of the blur of RISE: a square kernel, zero outside the image.

    The kernel is a point that is filtered by a Gaussian in a square whose edges reflect. It therefore sums to one. With sigma
    near half its size it is almost flat.

    Attributes:
        size: of the kernel in pixels, an odd number.
        sigma: in pixels.

    Source: Petsiuk, Das & Saenko, *RISE*, BMVC 2018, and its code.
    """

    size: int = 11
    sigma: float = 5.0
    name = "kernel-blur"
    space = "the model's input, after normalisation; the surroundings are zero there"

    def __post_init__(self) -> None:
        check_whole_number("size", self.size, "the side of the kernel in pixels")

    @full_precision()
    def __call__(self, images: Tensor) -> Tensor:
        from scipy.ndimage import gaussian_filter

        if self.size % 2 == 0:
            raise AttentionError(f"size={self.size} is even; only an odd kernel has a centre.", f"Pass size={self.size + 1}.")
        point = np.zeros((self.size, self.size))
        point[self.size // 2, self.size // 2] = 1
        kernel = torch.from_numpy(gaussian_filter(point, self.sigma)).to(images)
        channels = images.shape[1]
        return F.conv2d(images, kernel.expand(channels, 1, -1, -1), padding=self.size // 2, groups=channels)
