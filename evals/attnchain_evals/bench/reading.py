"""A batch of images as the methods read it: one capture for all, gradients once for those that need them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn

from attnchain_interp import (
    AttentionAttribution,
    AttentionError,
    AttentionGradientAttribution,
    AttentionGradients,
    AttentionStore,
    capture,
    capture_gradients,
)


@final
class Reading:
    """A batch of images as the methods read it: one capture for all, and gradients once one of them asks for these.

    Class-specific methods explain the class of the clean prediction.

    Args:
        model: images → logits, in eval mode.
        images: (batch, channel, height, width).
        first: the number of the first example in the data; random scores depend on it.
        target: (batch,) classes, in the place of the predicted ones.
    """

    def __init__(self, model: nn.Module, images: Tensor, first: int = 0, target: Tensor | None = None) -> None:
        self._model, self._images, self._first, self._target = model, images, first, target

    @cached_property
    def store(self) -> AttentionStore:
        return capture(self._model, self._images)

    @cached_property
    def logits(self) -> Tensor:
        """(batch, class)."""
        with torch.no_grad():
            output = self._model(self._images)
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise AttentionError("the model gives no logits (batch, class); take one with a classification head.")
        return logits

    @cached_property
    def target(self) -> Tensor:
        """(batch,): the predicted classes, unless others were given."""
        return self.logits.argmax(1) if self._target is None else self._target

    @cached_property
    def gradients(self) -> AttentionGradients:
        return capture_gradients(self._model, self._images, target=self.target)

    def grid(self, method: Any) -> Tensor:
        """Scores (batch, rows, columns) of a method; of one that reads more than maps and gradients, by its `attribute`."""
        if isinstance(method, AttentionAttribution):
            return self.store.tokens.to_grid(method.score_part(self.store, self._first))
        if isinstance(method, AttentionGradientAttribution) and method.forward_func is None:
            return self.gradients.tokens.to_grid(method.score(self.gradients))
        return method.attribute(self._images, self.target, output="grid")
