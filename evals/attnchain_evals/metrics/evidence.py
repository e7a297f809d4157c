"""Texts with known evidence: are its tokens ranked first? It does not say what the model uses."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric
from attnchain_evals.metrics.example_metric import Trial
from attnchain_interp import AttentionError


class EvidenceMetric(AttributionMetric):
    """A metric against the evidence of a text, among the ranked tokens. NaN where none or all of them are evidence."""

    needs = frozenset({"text"})
    version = 1
    higher_is_better = True

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        if trial.inputs.ndim != 2 or trial.mask is None or trial.mask.shape != trial.inputs.shape:
            came = None if trial.mask is None else tuple(trial.mask.shape)
            raise AttentionError(
                f"the trial's mask is {came}; {self.name} needs texts and a mask (batch, token), true on the evidence.",
                "Pass a trial of texts whose evidence is known.",
            )
        every = torch.ones_like(trial.inputs, dtype=torch.bool) if trial.words is None else trial.words >= 0
        rows = zip(attributions.cpu().double(), trial.mask.bool().cpu(), every.cpu(), strict=True)
        found = [self._figure(scores[ranked], truth[ranked]) for scores, truth, ranked in rows]
        return torch.tensor(found, dtype=torch.float64)[:, None]

    @abstractmethod
    def located(self, scores: Tensor, evidence: Tensor) -> float:
        """Returns the figure of the ranked tokens (token,). Some of them are evidence, but not all."""

    def _figure(self, scores: Tensor, evidence: Tensor) -> float:
        return self.located(scores, evidence) if bool(evidence.any()) and not bool(evidence.all()) else float("nan")


@final
class EvidenceAP(EvidenceMetric):
    """The average precision of the evidence among the ranked tokens, by scikit-learn: equal scores are one threshold."""

    def __init__(self) -> None:
        super().__init__("evidence-ap")

    def located(self, scores: Tensor, evidence: Tensor) -> float:
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(evidence.numpy(), scores.numpy()))


@final
class EvidenceFirst(EvidenceMetric):
    """Says whether the greatest score is on the evidence: 1 or 0. Among several, the share of them on the evidence."""

    def __init__(self) -> None:
        super().__init__("evidence-first")

    def located(self, scores: Tensor, evidence: Tensor) -> float:
        return float(evidence[scores == scores.max()].double().mean())
