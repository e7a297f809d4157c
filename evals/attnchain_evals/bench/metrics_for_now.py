"""Deletion, insertion, SRG and localisation as example metrics, over `Perturbation` and `segmentation_counts`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.perturbation import Mode, Perturbation
from attnchain_evals.segmentation import pooled, segmentation_counts
from attnchain_interp import AttentionError

Fractions = tuple[float, ...]
TWENTIETHS: Fractions = tuple(step / 20 for step in range(21))
LOCAL = ("correct", "background", "background union", "foreground", "foreground union", "precision")


class _Curve(ExampleMetric):
    """Area under the curve of a mode, and the curve itself at each fraction."""

    version: ClassVar[int] = 1
    mode: ClassVar[Mode]

    def __init__(self, occlusion: str = "mean", fractions: Sequence[float] = TWENTIETHS) -> None:
        self.fractions = tuple(sorted({0.0, 1.0, *fractions}))
        super().__init__(f"{self.mode}/{occlusion}", ("auc", *(f"{fraction:.6g}" for fraction in self.fractions)))
        self.occlusion = occlusion

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        return _curve(trial, attributions, self.mode, self.occlusion, self.fractions)


@final
class Deletion(_Curve):
    """Area under the deletion curve."""

    mode = "deletion"
    higher_is_better = False


@final
class Insertion(_Curve):
    """Area under the insertion curve."""

    mode = "insertion"
    higher_is_better = True


@final
class SymmetricRelevanceGain(ExampleMetric):
    """Insertion AUC − deletion AUC; the same as deletion in the reversed order − deletion.

    Raises:
        AttentionError: fractions that are not symmetric, under which even a random ranking has a score.
    """

    version: ClassVar[int] = 1
    higher_is_better = True

    def __init__(self, occlusion: str = "mean", fractions: Sequence[float] = TWENTIETHS) -> None:
        super().__init__(f"srg/{occlusion}")
        self.fractions, self.occlusion = tuple(sorted({0.0, 1.0, *fractions})), occlusion
        if {round(1 - fraction, 9) for fraction in self.fractions} != {round(fraction, 9) for fraction in self.fractions}:
            raise AttentionError(f"fractions={list(fractions)} are not symmetric: with every f there must be 1 − f.")

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        insertion = _curve(trial, attributions, "insertion", self.occlusion, self.fractions)
        return (insertion - _curve(trial, attributions, "deletion", self.occlusion, self.fractions))[:, :1]


@final
class Localisation(ExampleMetric):
    """Pixel accuracy, mean IoU or mean AP, as `segmentation_scores`."""

    version: ClassVar[int] = 1
    higher_is_better = True
    COLUMNS: ClassVar[dict[str, slice]] = {"acc": slice(0, 1), "miou": slice(1, 5), "map": slice(5, 6)}

    def __init__(self, name: Literal["acc", "miou", "map"]) -> None:
        super().__init__(name, LOCAL[self.COLUMNS[name]])

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        return _counts(trial, attributions)[:, self.COLUMNS[self.name]]

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        every: NDArray[np.float64] = np.ones((6, *means.shape[1:]))
        every[self.COLUMNS[self.name]] = means
        return pooled(every)[self.name]


def perturbation_metrics(occlusions: Sequence[str] = ("mean", "blur"), fractions: Sequence[float] = TWENTIETHS) -> list[Any]:
    """Deletion, insertion and SRG of each occlusion."""
    return [kind(name, fractions) for name in occlusions for kind in (Deletion, Insertion, SymmetricRelevanceGain)]


def localisation_metrics() -> list[Any]:
    """Pixel accuracy, mean IoU and mean AP."""
    return [Localisation("acc"), Localisation("miou"), Localisation("map")]


@lru_cache(maxsize=2)
def _experiment(trial: Trial, occlusion: str) -> Perturbation:
    return Perturbation(trial.model, trial.inputs, occlusion, len(trial.inputs))


@lru_cache(maxsize=8)
def _curve(trial: Trial, attributions: Tensor, mode: Mode, occlusion: str, fractions: Fractions) -> Tensor:
    """(batch, 1 + fraction): the AUC, then the score at each fraction; NaN for an attribution that holds NaN."""
    bad = attributions.isnan().flatten(1).any(1)
    found = _experiment(trial, occlusion).curve(
        attributions.masked_fill(bad[:, None, None], 0), trial.target, mode, fractions=fractions
    )
    patches = attributions[0].numel()
    taken = (found.fractions * patches).round().long().tolist()
    where = [taken.index(round(fraction * patches)) for fraction in fractions]
    figures = torch.cat([found.auc[:, None], found.scores[:, where]], 1).double()
    return figures.masked_fill(bad[:, None].to(figures.device), torch.nan)


@lru_cache(maxsize=2)
def _counts(trial: Trial, attributions: Tensor) -> Tensor:
    """(batch, 6); NaN for an attribution that holds NaN, and for a mask that is empty or full."""
    if trial.mask is None:
        raise AttentionError("localisation needs masks, and the data have none; leave out acc, miou and map.")
    flat = trial.mask.flatten(1)
    good = ~attributions.isnan().flatten(1).any(1).cpu() & (flat.any(1) & ~flat.all(1)).cpu()
    figures = torch.full((len(flat), 6), torch.nan, dtype=torch.float64)
    if good.any():
        figures[good] = torch.from_numpy(segmentation_counts(attributions.cpu()[good], trial.mask.cpu()[good]))
    return figures
