"""What every metric shares: figures of each example of a trial, and the score that their means add up to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.reprs import with_fields

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Trial:
    """A batch of examples on which attributions are judged.

    Attributes:
        model: inputs → logits (batch, class), or an output that has `.logits`; in eval mode.
        inputs: (batch, …).
        target: (batch,) the class that is explained; that of the clean prediction.
        mask: (batch, height, width) bool, true on the object, or (batch, token) on the evidence; None where there is none.
        label: (batch,) the classes that the data say are right; None where they say none.
        first: the number of the first example in the data, from which whatever is random is seeded, so that a result does not
            depend on how the examples were put into batches.
        words: of texts, (batch, token) the word of each token, −1 where it is none that is ranked; all are when None.
    """

    model: Callable[[Tensor], Any]
    inputs: Tensor
    target: Tensor
    mask: Tensor | None = None
    first: int = 0
    label: Tensor | None = None
    words: Tensor | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        return with_fields(self)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call with the key and kept with the trial.

        For what depends on the examples and not on attributions, so that it serves every metric and every method.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class ExampleMetric(torchmetrics.Metric, ABC):
    """A metric by figures per example. `update(trial, attributions)` and `compute()` as torchmetrics has them.

    Attributes:
        name: of the metric with its settings, unique in a result: "deletion/mean".
        version: raised whenever its numbers change.
        higher_is_better: as torchmetrics has it.
        columns: the names of the figures of an example.
    """

    version: int
    full_state_update = False

    name: str
    columns: tuple[str, ...]
    total: Tensor
    defined: Tensor
    undefined: Tensor

    def __init__(self, name: str, columns: tuple[str, ...] = ("value",)) -> None:
        super().__init__()
        self.name, self.columns = name, columns
        self.add_state("total", torch.zeros(len(columns), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("undefined", torch.tensor(0), dist_reduce_fx="sum")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        """(batch, column) float64: the figures of each example; NaN where the attribution or the example defines none.

        Raises:
            AttentionError: shapes that do not fit, or an example that lacks what the metric needs.
        """

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score (…) of the means over examples (column, …); the first column where not said otherwise."""
        return means[0]

    def update(self, trial: Trial, attributions: Tensor) -> None:
        figures = self.measure(trial, attributions)
        good = ~figures.isnan().any(1)
        self.total += figures[good].sum(0).to(self.total)
        self.defined += good.sum()
        self.undefined += (~good).sum()

    def compute(self) -> Tensor:
        means = (self.total / self.defined).cpu().numpy()
        return torch.as_tensor(self.summary(means))
