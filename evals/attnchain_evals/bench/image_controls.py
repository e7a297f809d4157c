"""Controls for images: grids of scores without a question to the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any, Final, final

import torch
from captum.attr import Attribution
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_evals.perturbation.patches import Patches, patches_on, pooled
from attnchain_interp import AttentionError, Role, capture
from attnchain_interp.reprs import with_settings


class ImageControl(Attribution, ABC):
    """A method explains something only where it scores above its controls.

    Args:
        grid: (rows, columns) of patches.
        model: says where its patches lie if they do not divide an image. None spreads them over the image.
    """

    def __init__(self, grid: tuple[int, int], model: nn.Module | None = None) -> None:
        self.forward_func: Any
        super().__init__(model or (lambda inputs: inputs))
        self.grid = grid

    def __repr__(self) -> str:
        return with_settings(self)

    @abstractmethod
    def cells(self, images: Tensor, patches: Patches) -> Tensor:
        """Returns the scores (batch, rows, columns) of the patches of images (batch, channel, height, width)."""

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
        patches = patches_on(self.forward_func, self.grid, inputs)
        cells = self.cells(inputs, patches)
        if output == "grid":
            return cells
        height, width = patches.covered
        spread = F.interpolate(cells[:, None], (height, width), mode="nearest")
        return F.pad(spread, (0, inputs.shape[3] - width, 0, inputs.shape[2] - height)).expand_as(inputs).contiguous()


DEVIATION: Final = 0.25  # of the image's sides


@final
class CentrePrior(ImageControl):
    """A Gaussian in the middle of the image: exp(−((x − ½)² + (y − ½)²) / 2σ²) at the centre (x, y) of each patch.

    x and y go from 0 to 1 over the image. σ is a quarter of a side.

    Args:
        grid, model: see `ImageControl`.
    """

    def cells(self, images: Tensor, patches: Patches) -> Tensor:
        def along(count: int, read: int, size: int) -> Tensor:
            centres = (torch.arange(count, dtype=images.dtype, device=images.device) + 0.5) / count * read / size
            return torch.exp(-((centres - 0.5) ** 2) / (2 * DEVIATION**2))

        rows, columns = map(along, self.grid, patches.covered, images.shape[2:])
        return (rows[:, None] * columns).expand(len(images), -1, -1).contiguous()


@final
class InputMagnitude(ImageControl):
    """The distance of a patch from the image's mean colour: |x − mean|, averaged over channels and over the patch.

    Args:
        grid, model: see `ImageControl`.
    """

    def cells(self, images: Tensor, patches: Patches) -> Tensor:
        distance = (images - images.mean((2, 3), keepdim=True)).abs().mean(1)
        return pooled(distance, self.grid, patches).to(images.dtype)


@final
class FeatureComponent(ImageControl):
    """The first principal component of the features of an image's patches, with the sign that makes the border negative.

    The features are the last output of a module that has a vector for each token of the model: behind the last norm, before
    the head. Patches at the border are background more often than not; the mean of their scores is not above zero.

    Args:
        model: a vision transformer that an adapter recognises.
        grid: (rows, columns) of patches.

    Raises:
        AttentionError: on attribution, no module of the model outputs a vector for each token.
    """

    def __init__(self, model: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__(grid, model)

    @torch.no_grad()
    def cells(self, images: Tensor, patches: Patches) -> Tensor:
        layout, features = self._features(images)
        return first_component(features[:, layout].flatten(1, -2).float(), self.grid)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which tokens are patches (token,), and the features (batch, token, width)."""
        model, seen = self.forward_func, list[Tensor]()
        tokens = capture(model, images, layers=-1).tokens

        def look(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 3 and output.shape[:2] == tokens.roles.shape:
                seen[:] = [output]

        with ExitStack() as hooks:
            for module in model.modules():
                hooks.enter_context(module.register_forward_hook(look))
            model(images)
        if not seen:
            raise AttentionError(
                f"no module of {type(model).__name__} outputs a vector for each of its {len(tokens)} tokens.",
                "Use this control with a vision transformer.",
            )
        return (tokens.roles[0] == Role.PATCH).to(seen[0].device), seen[0]


def first_component(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns the first component (batch, rows, columns) of features (batch, patch, width), whose border is below 0."""
    centred = features - features.mean(1, keepdim=True)
    component = torch.linalg.svd(centred, full_matrices=False).Vh[:, 0]
    cells = (centred @ component[..., None])[..., 0].unflatten(1, grid)
    inside = torch.zeros(grid, dtype=torch.bool, device=cells.device)
    inside[1:-1, 1:-1] = True
    border = cells.masked_fill(inside, 0).sum((1, 2), keepdim=True)
    return torch.where(border > 0, -cells, cells)
