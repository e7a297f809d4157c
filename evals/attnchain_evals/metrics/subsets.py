"""Random subsets of features, and the cost of their removal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.perturbation.class_score import ClassScore, class_score
from attnchain_evals.perturbation.perturbation_curve import Perturbation


def random_subsets(sizes: Sequence[int], features: int, examples: int, first: int, seed: int) -> Tensor:
    """Returns one random subset of each size for each example: (batch, subset, feature) bool.

    The seed and the number of the example in the data (`first` and on) fix its subsets.
    """

    def rows(example: int) -> NDArray[np.bool_]:
        places = np.random.default_rng([seed, first + example]).random((len(sizes), features)).argsort(1).argsort(1)
        return places < np.asarray(sizes)[:, None]

    return torch.from_numpy(np.stack([rows(example) for example in range(examples)]))


def drops(experiment: Perturbation, labels: Tensor, subsets: Tensor, target: Tensor, score: ClassScore) -> Tensor:
    """Returns f(x) − f(x without the subset) as (batch, subset) in float64, for subsets (batch, subset, feature)."""
    without = experiment.scores_without(labels, subsets.transpose(0, 1), target, score)
    return class_score(experiment.clean, target, score).double()[:, None] - without.double()
