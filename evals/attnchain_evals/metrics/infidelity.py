"""Infidelity as Captum computes it, on features that are there or removed."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric, perturbation
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.metrics.subsets import random_subsets
from attnchain_evals.perturbation.class_score import ClassScore, class_score
from attnchain_evals.perturbation.features import ranked
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named


@final
class Infidelity(AttributionMetric):
    """The mean over random subsets S of (β Σ_{i ∈ S} φ_i − (f(x) − f(x without S)))², by `captum.metrics.infidelity`.

    β = E[Σφ · Δf] / E[(Σφ)²] scales the attribution best (`normalize=True`): attention has no scale of its own, and φ and −φ
    have the same figure. Captum is given the presence of features, 1 or 0, as its input, so that patches are scored as patches
    and any occlusion serves. The sizes of the subsets are uniform between 1 and the number of features. Attributions of zero
    leave E[Δf²].

    Args:
        samples: subsets per example.
        occlusion: how features are removed.
        score: f.
        seed: of the subsets.
        name: "infidelity/" and the occlusion's name when None.

    Source: Yeh et al., *On the (In)fidelity and Sensitivity of Explanations*, NeurIPS 2019.
    """

    version = 1
    higher_is_better = False

    def __init__(
        self,
        samples: int = 100,
        occlusion: str | Occlusion = "mean",
        score: ClassScore = "probability",
        seed: int = 0,
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        self.samples, self.occlusion = samples, occlusion_named(occlusion)
        self.score: ClassScore = score
        self.seed, self.batch_size = seed, batch_size
        super().__init__(name or f"infidelity/{self.occlusion.name}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        from captum.metrics import infidelity

        found = ranked(attributions, trial.inputs)
        batch, n = found.scores.shape
        experiment = perturbation(trial, self.occlusion, self.batch_size)
        target = experiment.target(trial.target)

        def removed() -> tuple[Tensor, Tensor]:
            sizes = torch.randint(1, n + 1, (self.samples,), generator=torch.Generator().manual_seed(self.seed)).tolist()
            subsets = random_subsets(sizes, n, batch, trial.first, self.seed).to(found.labels.device)
            shown = experiment.without(found.labels, subsets.transpose(0, 1))
            return subsets, class_score(shown, target, self.score).double()

        key = (Infidelity, self.occlusion, self.samples, self.score, self.seed, attributions.shape[1:])
        subsets, left = trial.once(key, removed)
        clean = class_score(experiment.clean, target, self.score).double()

        def f(present: Tensor) -> Tensor:  # Captum asks for the whole input once, then for all perturbed ones, by example
            return clean if len(present) == batch and bool(present.all()) else left.flatten()

        def perturbed(present: Tensor) -> tuple[Tensor, Tensor]:
            change = subsets.flatten(0, 1).to(present)
            return change, present - change

        present = torch.ones_like(found.scores, dtype=torch.float64)
        scores = infidelity(f, perturbed, present, found.scores.double(), n_perturb_samples=self.samples, normalize=True)  # pyright: ignore[reportArgumentType]
        return scores[:, None]
