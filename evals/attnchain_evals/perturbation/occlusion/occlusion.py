"""The base class of occlusions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

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
