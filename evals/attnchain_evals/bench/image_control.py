"""The base class of controls for images: a grid of scores without a question to the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from captum.attr import Attribution
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError
from attnchain_interp.reprs import with_settings


class ImageControl(Attribution, ABC):
    """A method explains something only where it scores above its controls.

    Args:
        grid: (rows, columns) of patches.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__(lambda inputs: inputs)
        self.grid = grid

    def __repr__(self) -> str:
        return with_settings(self)

    @abstractmethod
    def cells(self, images: Tensor) -> Tensor:
        """Returns the scores (batch, rows, columns) of images (batch, channel, height, width)."""

    def attribute(  # type: ignore[override]
        self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None, output: str = "input"
    ) -> Tensor:
        """Returns the scores: output "input" (batch, channel, height, width) or "grid" (batch, rows, columns).

        Raises:
            AttentionError: inputs that are not images, or another output.
        """
        if inputs.ndim != 4 or output not in ("input", "grid"):
            raise AttentionError(
                f"inputs is {tuple(inputs.shape)} and output is {output!r}; this control is of images.",
                'Pass images (batch, channel, height, width) and output="input" or "grid".',
            )
        cells = self.cells(inputs)
        if output == "grid":
            return cells
        return F.interpolate(cells[:, None], inputs.shape[-2:], mode="nearest").expand_as(inputs).contiguous()
