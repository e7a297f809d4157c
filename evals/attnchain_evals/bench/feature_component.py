"""A control that reads the model's features and no attention: their first principal component."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from attnchain_evals.bench.image_control import ImageControl
from attnchain_interp import AttentionError, capture


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
        super().__init__(grid)
        self.forward_func = model

    @torch.no_grad()
    def cells(self, images: Tensor) -> Tensor:
        layout, features = self._features(images)
        patches = features[:, layout].flatten(1, -2).float()
        centred = patches - patches.mean(1, keepdim=True)
        component = torch.linalg.svd(centred, full_matrices=False).Vh[:, 0]
        cells = (centred @ component[..., None])[..., 0].unflatten(1, self.grid)
        inside = torch.zeros(self.grid, dtype=torch.bool, device=cells.device)
        inside[1:-1, 1:-1] = True
        border = cells.masked_fill(inside, 0).sum((1, 2), keepdim=True)
        return torch.where(border > 0, -cells, cells)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which tokens are patches (token,), and the features (batch, token, width)."""
        from attnchain_interp import Role

        model, seen = self.forward_func, list[Tensor]()
        tokens = capture(model, images, layers=-1).tokens

        def look(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 3 and output.shape[:2] == tokens.roles.shape:
                seen[:] = [output]

        handles = [module.register_forward_hook(look) for module in model.modules()]
        try:
            model(images)
        finally:
            for handle in handles:
                handle.remove()
        if not seen:
            raise AttentionError(
                f"no module of {type(model).__name__} outputs a vector for each of its {len(tokens)} tokens.",
                "Use this control with a vision transformer.",
            )
        return (tokens.roles[0] == Role.PATCH).to(seen[0].device), seen[0]
