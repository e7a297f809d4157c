"""A control that does not read the model. A method explains something only where it scores above this control."""

from __future__ import annotations

from typing import Any, final

from captum.attr import Attribution
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError
from attnchain_interp.reprs import with_settings


@final
class InputMagnitude(Attribution):
    """The distance of a patch from the image's mean colour: |x − mean|, averaged over channels and over the patch.

    Args:
        grid: (rows, columns) of patches.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__(lambda inputs: inputs)
        self.grid = grid

    def __repr__(self) -> str:
        return with_settings(self)

    def attribute(  # type: ignore[override]
        self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None, output: str = "input"
    ) -> Tensor:
        """Returns the distances: output "input" (batch, channel, height, width) or "grid" (batch, rows, columns).

        Raises:
            AttentionError: inputs that are not images, or another output.
        """
        if inputs.ndim != 4 or output not in ("input", "grid"):
            raise AttentionError(
                f"inputs is {tuple(inputs.shape)} and output is {output!r}; this control is of images.",
                'Pass images (batch, channel, height, width) and output="input" or "grid".',
            )
        distance = (inputs - inputs.mean((2, 3), keepdim=True)).abs().mean(1, keepdim=True)
        patches = F.adaptive_avg_pool2d(distance, self.grid)
        if output == "grid":
            return patches[:, 0]
        return F.interpolate(patches, inputs.shape[-2:], mode="nearest").expand_as(inputs).contiguous()
