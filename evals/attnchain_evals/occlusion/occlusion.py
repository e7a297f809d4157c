"""What every occlusion shares: how a model sees inputs of which a part is removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

View = Callable[[Tensor, Tensor], Any]
"""(pair,) numbers of examples, and (pair, height, width) bool, true where removed → the model's output for each pair."""


class Occlusion(ABC):
    """How a part of an image is removed.

    Attributes:
        name: as metrics spell it, "mean".
        space: where the removal happens: the model's input, the image before normalisation, or the model's tokens.
    """

    name: ClassVar[str]
    space: ClassVar[str]

    @abstractmethod
    def over(self, model: Callable[[Tensor], Any], images: Tensor, first: int = 0) -> View:
        """The model as it sees these images with parts removed; what does not depend on the part is computed here, once.

        Args:
            model: images → logits.
            images: (batch, channel, height, width).
            first: the number of the first image in the data; whatever is random is seeded by the number of its image.

        Raises:
            AttentionError: the model does not allow this kind of removal.
        """
