"""The base class of metrics: figures of each example of a trial, and the score of their means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.perturbation.patches import Patches, patches_of
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_tensor
from attnchain_interp.reprs import with_fields

T = TypeVar("T")


@final
@dataclass(frozen=True, eq=False)
class Trial:
    """A batch of examples on which attributions are judged.

    Attributes:
        model: inputs → logits (batch, class), or an output with `.logits`, in eval mode.
        inputs: (batch, …).
        target: (batch,) the class that is explained: the clean prediction. None where the model has no classes.
        mask: (batch, height, width) bool, true on the object, or (batch, token), true on the evidence. None if unknown.
        first: the number of the first example in the data. It seeds all randomness, so a result does not depend on the
            batches.
        label: (batch,) the right classes according to the data. None if unknown.
        words: (batch, token) the word of each token of a text, −1 for tokens that are not ranked. None ranks all tokens.
        sentences: (batch, token) the sentence of each token, −1 for tokens that are not ranked. None if unknown.
        answers: (batch, token of the answer) the tokens after each text that are explained together. None: the target alone.
    """

    model: Callable[[Tensor], Any]
    inputs: Tensor
    target: Tensor | None
    mask: Tensor | None = None
    first: int = 0
    label: Tensor | None = None
    words: Tensor | None = None
    sentences: Tensor | None = None
    answers: Tensor | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_tensor("inputs", self.inputs, "of images, or of token numbers")
        for name in ("mask", "words", "sentences", "answers"):
            if getattr(self, name) is not None:
                check_tensor(name, getattr(self, name), "(batch, height, width) of images, or (batch, token) of texts")

    def __repr__(self) -> str:
        return with_fields(self)

    @property
    def patches(self) -> Patches | None:
        """The model's patches of the images; None where it does not tell them."""
        return self.once("patches", lambda: patches_of(self.model, self.inputs))

    @property
    def explained(self) -> Tensor:
        """The class (batch,) that is explained.

        Raises:
            AttentionError: the model has no classes, or whole answers are explained.
        """
        if self.answers is not None:
            raise AttentionError(
                "the metric scores one token of the output, and the data explain whole answers.",
                'Take evidence-ap, evidence-first or sentence-hit, or data with explained="first token".',
            )
        if self.target is None:
            raise AttentionError(
                "the metric asks for the class that is explained, and the model outputs no logits.",
                "Take a model with a classification head, or metrics of a mask: acc, miou, map, pointing-game, energy-inside.",
            )
        return self.target

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the result of `make`, called once per key and kept with the trial.

        It serves results that depend on the examples alone, so that all metrics and methods share them.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class ExampleMetric(torchmetrics.Metric, ABC):
    """A metric that has figures for each example. `update(trial, attributions)` and `compute()` are those of torchmetrics.

    Attributes:
        name: of the metric with its settings, unique in a result: "deletion/mean".
        version: raised whenever its numbers change.
        higher_is_better: as torchmetrics defines it.
        columns: the names of the figures of an example.
        needs: the things that the metric asks of a model: "logits", "images", "text".
    """

    needs: ClassVar[frozenset[str]] = frozenset()
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
        """Returns the figures of each example (batch, column) in float64, NaN where they are undefined.

        Raises:
            AttentionError: shapes that do not fit, or a trial without what the metric needs.
        """

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the score (…) of the means over examples (column, …). The default is the first column."""
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
