"""Infidelity, computed by Captum on features that are present or removed."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import RemovalMetric, drops, random_subsets
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.occlusion import Occlusion


@final
class Infidelity(RemovalMetric):
    """The mean over random subsets S of (β Σ_{i ∈ S} φ_i − (f(x) − f(x without S)))², by `captum.metrics.infidelity`.

    β = E[Σφ · Δf] / E[(Σφ)²] is the best scale of the attribution (`normalize=True`), because attention has no scale of its
    own. φ and −φ therefore have the same figure. The input that Captum sees is the presence of features, 1 or 0, so patches
    are scored as patches under any occlusion. The sizes of the subsets are uniform between 1 and the number of features.
    Attributions of zero have the figure E[Δf²].

    Args:
        samples: subsets per example.
        score: f.
        seed: of the subsets.
        occlusion, name, batch_size: see `RemovalMetric`.

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
        self.samples, self.seed = samples, seed
        self.score: ClassScore = score
        super().__init__("infidelity", occlusion, name, batch_size)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        from captum.metrics import infidelity

        experiment, target = self.experiment(trial)
        found = experiment.ranked(attributions)
        batch, n = found.scores.shape

        def removed() -> tuple[Tensor, Tensor]:
            sizes = torch.randint(1, n + 1, (self.samples,), generator=torch.Generator().manual_seed(self.seed)).tolist()
            subsets = random_subsets(sizes, n, batch, trial.first, self.seed).to(found.labels.device)
            return subsets, drops(experiment, found.labels, subsets, target, self.score)

        key = (Infidelity, self.occlusion, self.samples, self.score, self.seed, attributions.shape[1:])
        subsets, costs = trial.once(key, removed)

        def f(present: Tensor) -> Tensor:  # f − f(x): Captum asks once for the whole input, then for all perturbed ones
            return costs.new_zeros(batch) if len(present) == batch and bool(present.all()) else -costs.flatten()

        def perturbed(present: Tensor) -> tuple[Tensor, Tensor]:
            change = subsets.flatten(0, 1).to(present)
            return change, present - change

        present = torch.ones_like(found.scores, dtype=torch.float64)
        scores = infidelity(f, perturbed, present, found.scores.double(), n_perturb_samples=self.samples, normalize=True)  # pyright: ignore[reportArgumentType]
        return scores[:, None]
