"""Sensitivity-n and infidelity: do the attributions of features add up to the cost of removing random subsets of them?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import RemovalMetric, check_score, drops, random_subsets
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.curve import checked_fractions
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_interp.checks import check_whole_number


@final
class SensitivityN(RemovalMetric):
    """The Pearson correlation of Σ_{i ∈ S} φ_i with f(x) − f(x without S), over random subsets S of n features.

    The first column is the mean over the sizes n. A column for each size follows. Constant attributions have no correlation:
    NaN.

    Args:
        fractions: the sizes n, as fractions of the features. A subset has at least one feature.
        samples: subsets of each size.
        score: f; the logit in the paper.
        seed: of the subsets.
        occlusion, name, batch_size: see `RemovalMetric`.

    Source: Ancona et al., *Towards Better Understanding of Gradient-based Attribution Methods*, ICLR 2018.
    """

    needs = RemovalMetric.needs | {"images"}
    version = 3  # patches lie where they are read
    higher_is_better = True

    def __init__(
        self,
        fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8),
        samples: int = 50,
        occlusion: str | Occlusion = "mean",
        score: ClassScore = "logit",
        seed: int = 0,
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        check_whole_number("samples", samples, "the number of subsets of each size", least=2)
        check_whole_number("seed", seed, "the seed of the subsets", least=0)
        check_score(score)
        self.fractions, self.samples, self.seed = checked_fractions(fractions), samples, seed
        self.score: ClassScore = score
        columns = ("value", *(f"n={fraction:g}" for fraction in self.fractions))
        super().__init__("sensitivity-n", occlusion, name, batch_size, columns)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        experiment, target = self.experiment(trial)
        found = experiment.ranked(attributions)
        key = (SensitivityN, self.occlusion, self.fractions, self.samples, self.score, self.seed, attributions.shape[1:])

        def removed() -> tuple[Tensor, Tensor]:
            n = found.scores.shape[1]
            sizes = [max(1, round(fraction * n)) for fraction in self.fractions for _ in range(self.samples)]
            subsets = random_subsets(sizes, n, len(trial.inputs), trial.first, self.seed).to(found.labels.device)
            return subsets, drops(experiment, found.labels, subsets, target, self.score)

        subsets, costs = trial.once(key, removed)
        sums = torch.einsum("bsf,bf->bs", subsets.double(), found.scores.double())
        shape = (len(sums), len(self.fractions), self.samples)
        each = correlation(sums.view(shape), costs.view(shape))
        return torch.cat([each.mean(1, keepdim=True), each], 1)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Returns Pearson's correlation over the last dimension, (…), of any scale. NaN where one of the two is constant.

    >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0]) * 1e-30)
    tensor(1.)
    """
    return (_standardised(a) * _standardised(b)).sum(-1)


def _standardised(numbers: Tensor) -> Tensor:
    """Returns the numbers less their mean, of length 1 over the last dimension. NaN where they differ by rounding alone."""
    largest = numbers.abs().amax(-1, keepdim=True)
    numbers = numbers / torch.where(largest > 0, largest, 1)
    centred = numbers - numbers.mean(-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    return centred / torch.where(length > 1e-12 * math.sqrt(numbers.shape[-1]), length, torch.nan)


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

    needs = RemovalMetric.needs | {"images"}
    version = 2  # patches lie where they are read
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
        check_whole_number("samples", samples, "the number of subsets of an example")
        check_whole_number("seed", seed, "the seed of the subsets", least=0)
        check_score(score)
        self.samples, self.seed = samples, seed
        self.score: ClassScore = score
        super().__init__("infidelity", occlusion, name, batch_size)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        from captum.metrics import infidelity

        experiment, target = self.experiment(trial)
        found = experiment.ranked(attributions)
        batch, n = found.scores.shape

        def removed() -> tuple[Tensor, Tensor]:
            sizes = torch.randint(
                1, n + 1, (self.samples,), generator=torch.Generator().manual_seed(self.seed), device="cpu"
            ).tolist()
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
