"""What every occlusion shares: how a model sees inputs of which a part is removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

View = Callable[[Tensor, Tensor], Any]
"""(pair,) numbers of examples, and (pair, height, width) or (pair, token) bool, true where removed → the model's output."""


class Occlusion(ABC):
    """How a part of an input is removed.

    Attributes:
        name: as metrics spell it, "mean".
        space: where the removal happens: the model's input, the image before normalisation, or the model's tokens.
        axes: of the inputs that it removes parts of: 4 of images (batch, channel, height, width), 2 of texts (batch, token).
    """

    name: ClassVar[str]
    space: ClassVar[str]
    axes: ClassVar[frozenset[int]] = frozenset({4})

    @abstractmethod
    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        """The model as it sees these inputs with parts removed; what does not depend on the part is computed here, once.

        Args:
            model: inputs → logits.
            inputs: (batch, channel, height, width), or token numbers (batch, token).
            first: the number of the first input in the data; whatever is random is seeded by the number of its input.

        Raises:
            AttentionError: the model does not allow this kind of removal.
        """
