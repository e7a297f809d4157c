"""Texts with known evidence: are its tokens, its words, or its sentence ranked first? It does not say what the model uses."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Literal, final, get_args

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric, RemovalMetric, check_score, drops, features_of
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.metrics.subset_metrics import correlation
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.features import Ranked, ranked
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of

Unit = Literal["token", "word"]


class EvidenceMetric(AttributionMetric):
    """A metric against the evidence of a text, among its ranked tokens or its words. NaN where none or all are evidence.

    Args:
        family: of the metric.
        features: "token" ranks each token alone. "word" ranks the words of the trial: a word has the sum of the scores of its
            tokens, and is evidence if one of its tokens is. It asks which words an answer came from, however many tokens the
            tokenizer makes of them.
    """

    needs = frozenset({"text"})
    version = 1
    higher_is_better = True

    def __init__(self, family: str, features: Unit) -> None:
        check_one_of("features", features, get_args(Unit))
        self.features: Final = features
        super().__init__(family if features == "token" else f"{family}/{features}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        if trial.inputs.ndim != 2 or trial.mask is None or trial.mask.shape != trial.inputs.shape:
            came = None if trial.mask is None else tuple(trial.mask.shape)
            raise AttentionError(
                f"the trial's mask is {came}; {self.name} needs texts and a mask (batch, token), true on the evidence.",
                "Pass a trial of texts whose evidence is known.",
            )
        found = ranked(attributions, trial.inputs, features_of(trial, self.features))
        holds = held(trial.mask, trial, found)
        rows = zip(found.scores.cpu().double(), holds.cpu(), found.sizes.tolist(), strict=True)
        figures = [self.located(scores[:size], own[:size]) for scores, own, size in rows]
        return torch.tensor(figures, dtype=torch.float64)[:, None]

    @abstractmethod
    def located(self, scores: Tensor, evidence: Tensor) -> float:
        """Returns the figure of the ranked tokens or words (feature,)."""


@final
class EvidenceAP(EvidenceMetric):
    """The average precision of the evidence among the ranked features, by scikit-learn: equal scores are one threshold.

    Args:
        features: See `EvidenceMetric`.
    """

    def __init__(self, features: Unit = "token") -> None:
        super().__init__("evidence-ap", features)

    def located(self, scores: Tensor, evidence: Tensor) -> float:
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(evidence.numpy(), scores.numpy())) if divided(evidence) else float("nan")


@final
class EvidenceFirst(EvidenceMetric):
    """Says whether the greatest score is on the evidence: 1 or 0. Among several, the share of them on the evidence.

    Args:
        features: See `EvidenceMetric`.
    """

    def __init__(self, features: Unit = "token") -> None:
        super().__init__("evidence-first", features)

    def located(self, scores: Tensor, evidence: Tensor) -> float:
        return hit(scores, evidence)


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
        holds = held(trial.mask, trial, found)
        rows = zip(found.scores, holds, found.sizes.tolist(), strict=True)
        return torch.tensor([[hit(scores[:size], own[:size])] for scores, own, size in rows], dtype=torch.float64)


@final
class SentenceCorrelation(RemovalMetric):
    """The Pearson correlation, over the sentences of a text, of the sum of scores with the cost of removing the sentence.

    The cost is f(x) − f(x without the sentence). NaN for fewer than three sentences, and where one of the two is constant.

    Args:
        score: f.
        occlusion, name, batch_size: see `RemovalMetric`.
    """

    version = 2
    higher_is_better = True

    def __init__(
        self,
        occlusion: str | Occlusion = "attention-mask",
        score: ClassScore = "log-probability",
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        check_score(score)
        self.score: ClassScore = score
        super().__init__("sentence-correlation", occlusion, name, batch_size)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        found = by_sentence(trial, attributions, self.name)

        def removed() -> Tensor:
            experiment, target = self.experiment(trial)
            each = torch.eye(found.scores.shape[1], dtype=torch.bool, device=found.labels.device)
            return drops(experiment, found.labels, each.expand(len(found.labels), -1, -1), target, self.score)

        costs = trial.once((SentenceCorrelation, self.occlusion, self.score), removed)
        rows = zip(found.scores.double(), costs.double(), found.sizes.tolist(), strict=True)
        return torch.stack([correlation(a[:n], b[:n]) if n > 2 else a.new_tensor(torch.nan) for a, b, n in rows])[:, None]


def by_sentence(trial: Trial, attributions: Tensor, metric: str) -> Ranked:
    """Returns the sentences of a trial as features, with the sums of the scores of their tokens."""
    if trial.inputs.ndim != 2 or trial.sentences is None:
        raise AttentionError(
            f"the trial has no sentences; {metric} needs texts and sentences (batch, token).",
            "Pass a trial of texts whose sentences are known.",
        )
    return ranked(attributions, trial.inputs, trial.sentences)


def held(evidence: Tensor, trial: Trial, found: Ranked) -> Tensor:
    """Returns whether each feature holds a token of the evidence (batch, token): (batch, feature) bool."""
    return ranked(evidence.float(), trial.inputs, found.labels).scores > 0


def hit(scores: Tensor, holds: Tensor) -> float:
    """Returns the share of the greatest scores that hold evidence."""
    return float(holds[scores == scores.max()].double().mean()) if divided(holds) else float("nan")


def divided(holds: Tensor) -> bool:
    """Returns whether some hold evidence, but not all."""
    return bool(holds.any()) and not bool(holds.all())
