"""Texts of several sentences: is the right one found, and do its scores say what a sentence is worth?"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric, RemovalMetric, drops
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.metrics.sensitivity_n import correlation
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.features import Ranked, ranked
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_interp import AttentionError


@final
class SentenceHit(AttributionMetric):
    """Says whether the sentence with the greatest sum of scores holds evidence: 1 or 0.

    Among several such sentences it is the share of them that hold evidence. NaN where no sentence holds evidence, or each.
    """

    needs = frozenset({"text"})
    version = 1
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__("sentence-hit")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        found = by_sentence(trial, attributions, self.name)
        if trial.mask is None:
            raise AttentionError(
                f"the trial has no mask; {self.name} needs one (batch, token), true on the evidence.",
                "Pass a trial of texts whose evidence is known.",
            )
        holds = ranked(trial.mask.to(attributions), trial.inputs, found.labels).scores > 0
        rows = zip(found.scores, holds, found.sizes.tolist(), strict=True)
        return torch.tensor([[_hit(scores[:size], own[:size])] for scores, own, size in rows], dtype=torch.float64)


@final
class SentenceCorrelation(RemovalMetric):
    """The Pearson correlation, over the sentences of a text, of the sum of scores with the cost of removing the sentence.

    The cost is f(x) − f(x without the sentence). NaN for fewer than three sentences, and where one of the two is constant.

    Args:
        score: f.
        occlusion, name, batch_size: see `RemovalMetric`.
    """

    version = 1
    higher_is_better = True

    def __init__(
        self,
        occlusion: str | Occlusion = "attention-mask",
        score: ClassScore = "log-probability",
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        self.score: ClassScore = score
        super().__init__("sentence-correlation", occlusion, name, batch_size)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        found = by_sentence(trial, attributions, self.name)

        def removed() -> Tensor:
            experiment, target = self.experiment(trial)
            each = torch.eye(found.scores.shape[1], dtype=torch.bool, device=found.labels.device)
            return drops(experiment, found.labels, each.expand(len(found.labels), -1, -1), target, self.score)

        costs = trial.once((SentenceCorrelation, self.occlusion, self.score), removed)
        rows = zip(found.scores, costs, found.sizes.tolist(), strict=True)
        return torch.stack([correlation(a[:n], b[:n]) if n > 2 else a.new_tensor(torch.nan) for a, b, n in rows])[:, None]


def by_sentence(trial: Trial, attributions: Tensor, metric: str) -> Ranked:
    """Returns the sentences of a trial as features, with the sums of the scores of their tokens."""
    if trial.inputs.ndim != 2 or trial.sentences is None:
        raise AttentionError(
            f"the trial has no sentences; {metric} needs texts and sentences (batch, token).",
            "Pass a trial of texts whose sentences are known.",
        )
    return ranked(attributions, trial.inputs, trial.sentences)


def _hit(scores: Tensor, holds: Tensor) -> float:
    if not bool(holds.any()) or bool(holds.all()):
        return float("nan")
    return float(holds[scores == scores.max()].double().mean())
