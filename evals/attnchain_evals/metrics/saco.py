"""SaCo: do more salient groups of pixels matter more, in proportion?"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import RemovalMetric, drops, features_of
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.label_map import check_features
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_interp.checks import check_whole_number


@final
class SaCo(RemovalMetric):
    """The salience-guided faithfulness coefficient, in [−1, 1].

    Features are cut by falling salience into groups G₁ … G_K of equal size; with fewer features than K, each is a group.
    s(G) is the mean salience of a group: sizes may differ by one, and a sum would prefer the larger group. Δ(G) = p(x) − p(x
    without G). Each pair i < j has the weight s(G_i) − s(G_j), positive if Δ(G_i) ≥ Δ(G_j), else negative. The coefficient is
    the sum of the weights over the sum of their absolute values. NaN where all groups are equally salient.

    The sum over pairs is that of the published code, which leaves groups and removal open. Ten groups, the mean colour of the
    image and the probability are those of a reproduction of the paper.

    Args:
        groups: K.
        occlusion: how a group is removed; the image's mean colour in the paper.
        features: "pixel" (the paper) or "patch"; for texts "token" or "word".
        name, batch_size: see `RemovalMetric`.

    Source: Wu et al., *On the Faithfulness of Vision Transformer Explanations*, CVPR 2024 (arXiv 2404.01415).
    """

    version = 4  # since 2, few features are not NaN; since 3, maps are enlarged in float64; since 4, patches as they are read
    higher_is_better = True

    def __init__(
        self,
        groups: int = 10,
        occlusion: str | Occlusion = "mean",
        features: Features = "pixel",
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        check_whole_number("groups", groups, "the number of groups that are compared", least=2)
        check_features(features)
        self.groups = groups
        self.features: Features = features
        super().__init__("saco", occlusion, name, batch_size)

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        experiment, target = self.experiment(trial)
        found = experiment.ranked(attributions, features_of(trial, self.features))
        groups = found.sizes.clamp_max(self.groups)[:, None]
        group = found.ranks("morf") * groups // found.sizes[:, None]
        members = torch.stack([(group == k) & found.present for k in range(int(groups.max()))], 1)
        salience = torch.einsum("bgf,bf->bg", members.double(), found.scores.double()) / members.sum(2)
        return saco(salience, drops(experiment, found.labels, members, target, "probability"))[:, None]


def saco(salience: Tensor, costs: Tensor) -> Tensor:
    """Returns the coefficient (batch,) of groups, given their falling salience and the costs of their removal (batch, group).

    A group whose salience is NaN is not there.

    >>> saco(torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([[0.5, 0.1, 0.2]]))  # weights 1, 3 and −2
    tensor([0.3333])
    """
    i, j = torch.triu_indices(salience.shape[1], salience.shape[1], 1)
    size = salience[:, i] - salience[:, j]
    size = torch.where(size.isnan(), 0, size)
    weights = torch.where(costs[:, i] >= costs[:, j], size, -size)
    total = size.abs().sum(1)
    tiny = 1e-12 * torch.where(salience.isnan(), 0, salience).abs().amax(1)
    return torch.where(total > tiny, weights.sum(1) / total, torch.nan)
