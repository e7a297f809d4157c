"""Methods × metrics over a data set: one table, per-example figures kept, every figure with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from attnchain_evals.cluttered_digits import Example
from attnchain_evals.perturbation import Perturbation
from attnchain_evals.segmentation import pooled, segmentation_counts
from attnchain_evals.statistics import Score, interval
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
@dataclass(frozen=True)
class Benchmark:
    """Per-example figures of every method, and the scores they add up to.

    Attributes:
        occlusions: names, in the order of the columns.
        baseline: the method that SRG differences are taken against, example by example.
        figures: method → (example, column): deletion and insertion AUC for each occlusion, then the six columns of
            `segmentation_counts`.
    """

    occlusions: tuple[str, ...]
    baseline: str
    figures: dict[str, NDArray[np.float64]]

    @cached_property
    def scores(self) -> dict[str, dict[str, Score]]:
        """Method → metric → score. Metrics: "deletion/mean", "insertion/mean", "srg/mean", "srg-baseline/mean" and so on
        for each occlusion, and "acc", "miou", "map"."""
        return {method: self._scores_of(method) for method in self.figures}

    def _scores_of(self, method: str) -> dict[str, Score]:
        own, base = self.figures[method], self.figures[self.baseline]
        scores: dict[str, Score] = {}
        for k, occlusion in enumerate(self.occlusions):
            deletion, insertion = own[:, 2 * k], own[:, 2 * k + 1]
            srg = insertion - deletion
            difference = srg - (base[:, 2 * k + 1] - base[:, 2 * k])
            columns = {"deletion": deletion, "insertion": insertion, "srg": srg, "srg-baseline": difference}
            for name, column in columns.items():
                scores[f"{name}/{occlusion}"] = interval(lambda means: means[0], column[:, None])
        counts = own[:, 2 * len(self.occlusions) :]
        for name in ("acc", "miou", "map"):
            scores[name] = interval(lambda means, name=name: pooled(means)[name], counts)
        return scores

    def markdown(self) -> str:
        """One table for each occlusion and one for localisation; the best figure of a column is bold."""
        scores = self.scores
        tables = [
            self._table(
                scores,
                {
                    f"deletion, {occlusion} ↓": f"deletion/{occlusion}",
                    f"insertion, {occlusion} ↑": f"insertion/{occlusion}",
                    "SRG ↑": f"srg/{occlusion}",
                    f"SRG − {self.baseline}": f"srg-baseline/{occlusion}",
                },
            )
            for occlusion in self.occlusions
        ]
        tables.append(self._table(scores, {"pixel accuracy ↑": "acc", "mean IoU ↑": "miou", "mean AP ↑": "map"}))
        return "\n\n".join(tables)

    @staticmethod
    def _table(scores: dict[str, dict[str, Score]], columns: dict[str, str]) -> str:
        best = {
            metric: (min if "↓" in title else max)(scores[method][metric].value for method in scores)
            for title, metric in columns.items()
        }
        lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for method, row in scores.items():
            cells = [
                f"**{row[metric]}**" if row[metric].value == best[metric] else str(row[metric]) for metric in columns.values()
            ]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def benchmark(
    model: nn.Module,
    data: Iterable[Example],
    methods: Mapping[str, Any],
    occlusions: Sequence[str] = ("mean", "blur"),
    fractions: int | Sequence[float] = 20,
    baseline: str = "Rollout",
    progress: bool = False,
) -> Benchmark:
    """Deletion, insertion, SRG and localisation of every method on every example.

    Attention methods share one capture per batch, class-specific ones one forward and backward. The class is that of the
    clean prediction.

    Args:
        model: images → logits, in eval mode.
        data: batches with `image` (batch, channel, height, width) and `mask` (batch, height, width).
        methods: name → an `AttentionAttribution`, an `AttentionGradientAttribution`, or anything else with
            `attribute(images, target, output="grid")`. A class-specific one without a model reads the shared gradients; one
            that holds the model takes its own (`TransitionAttentionMaps` integrates).
        occlusions: names, as in `perturbation_curve`.
        fractions: as in `perturbation_curve`, and symmetric (f and 1 − f), so that SRG compares one order with its
            reverse at the same places: else even a random ranking has a score.
        baseline: one of the methods, for paired differences of SRG.
        progress: show a bar.

    Raises:
        AttentionError: a baseline that is not among the methods, fractions that are not symmetric, no data, or what
            capture and the metrics raise.
    """
    if baseline not in methods:
        raise AttentionError(f"baseline={baseline!r} is not among the methods: {', '.join(methods)}.")
    if not isinstance(fractions, int) and not _symmetric(fractions):
        raise AttentionError(f"fractions={fractions!r} are not symmetric: with every f there must be 1 − f.")
    device = next(model.parameters()).device
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in methods}
    total = len(data) * len(methods) if isinstance(data, Sized) else None
    with tqdm(total=total, unit="method", disable=not progress) as bar:
        for batch in data:
            images = batch.image.to(device)
            experiments = [Perturbation(model, images, occlusion) for occlusion in occlusions]
            reading = Reading(model, images)
            for name, method in methods.items():
                bar.set_description(name)
                grid = reading.grid(method)
                columns = [
                    experiment.curve(grid, None, mode, fractions=fractions).auc
                    for experiment in experiments
                    for mode in ("deletion", "insertion")
                ]
                curves = torch.stack(columns, 1).double().cpu().numpy()
                rows[name].append(np.concatenate([curves, segmentation_counts(grid, batch.mask)], 1))
                bar.update()
    if not any(rows.values()):
        raise AttentionError("the data held no batch; pass batches of examples.")
    return Benchmark(tuple(occlusions), baseline, {name: np.concatenate(parts) for name, parts in rows.items()})


def _symmetric(fractions: Sequence[float]) -> bool:
    """Whether with every fraction its complement is there; 1 − 0.9 is not 0.1 to the last bit, hence the rounding."""
    there = {0, 1, *(round(fraction, 9) for fraction in fractions)}
    return there == {round(1 - fraction, 9) for fraction in there}


@final
class Reading:
    """A batch of images as the methods read it: one capture for all, and gradients once one of them asks for these.

    Class-specific methods explain the class of the clean prediction.

    Args:
        model: images → logits, in eval mode.
        images: (batch, channel, height, width).
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._model, self._images = model, images

    @cached_property
    def store(self) -> AttentionStore:
        return capture(self._model, self._images)

    @cached_property
    def target(self) -> Tensor:
        """(batch,): the predicted classes."""
        with torch.no_grad():
            return self._model(self._images).argmax(1)

    @cached_property
    def gradients(self) -> AttentionGradients:
        return capture_gradients(self._model, self._images, target=self.target)

    def grid(self, method: Any) -> Tensor:
        """Scores (batch, rows, columns) of a method; of a class-specific one that holds a model, by its `attribute`."""
        if isinstance(method, AttentionAttribution):
            return self.store.tokens.to_grid(method.score(self.store))
        if isinstance(method, AttentionGradientAttribution) and method.forward_func is None:
            return self.gradients.tokens.to_grid(method.score(self.gradients))
        return method.attribute(self._images, self.target, output="grid")
