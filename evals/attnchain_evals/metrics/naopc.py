"""Normalised AOPC: the place of an attribution's order between the worst and the best order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_evals.metrics.attribution_metric import RemovalMetric
from attnchain_evals.metrics.example_metric import Trial
from attnchain_evals.perturbation.class_score import class_score
from attnchain_evals.perturbation.features import Ranked, ranked
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_evals.perturbation.patches import Patches, extent
from attnchain_evals.perturbation.perturbation import Perturbation
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_whole_number


@final
class NAOPC(RemovalMetric):
    """(AOPC − lower) / (upper − lower). Beam search finds the bounds over all orders of removal.

    AOPC is the mean over k = 1 … n of f(x) − f(x without the first k). Its bounds depend on model and example, so AOPC of two
    models cannot be compared. Beam search may miss a bound, so a figure can lie a little outside [0, 1]. Images are cut into a
    few regions. The salience of a region is the mean of its attributions. NaN where all orders are equal.

    Args:
        regions: rows and columns of regions.
        beam: the number of partial orders that are kept at each step.
        occlusion, name, batch_size: see `RemovalMetric`.

    Source: Edin et al., *Normalized AOPC*, ACL 2025 (arXiv 2408.08137).
    """

    needs = RemovalMetric.needs | {"images"}
    version = 2  # patches lie where they are read
    higher_is_better = True

    def __init__(
        self,
        regions: Sequence[int] = (3, 3),
        beam: int = 5,
        occlusion: str | Occlusion = "mean",
        name: str | None = None,
        batch_size: int = 64,
    ) -> None:
        check_whole_number("beam", beam, "how many orders are kept")
        listed = isinstance(regions, Sequence) and len(regions) == 2
        if not listed or not all(isinstance(count, Integral) and count is not True and count > 0 for count in regions):
            raise AttentionError(
                f"regions is {regions!r}; it is a number of rows and one of columns, each from 1 on.", "Pass regions=(3, 3)."
            )
        self.regions, self.beam = (regions[0], regions[1]), beam
        super().__init__("naopc", occlusion, name, batch_size, ("value", "aopc", "lower", "upper"))

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        experiment, target = self.experiment(trial)
        regions = F.adaptive_avg_pool2d(attributions[:, None].double(), self.regions)[:, 0]
        places = extent(tuple(attributions.shape[1:]), trial.inputs.shape[-2:], experiment.patches)
        found = ranked(regions, trial.inputs, patches=Patches(self.regions, places))
        n = found.scores.shape[1]
        clean = class_score(experiment.clean, target).double()
        ranks = found.ranks("morf")
        shown = experiment.without(found.labels, (ranks < count for count in range(1, n + 1)))
        aopc = clean - class_score(shown, target).double().mean(1)

        def bounds() -> Tensor:
            rows = [self._bounds(experiment, found, example, target, clean) for example in range(len(clean))]
            return torch.tensor(rows, dtype=torch.float64, device=aopc.device)

        lower, upper = trial.once((NAOPC, self.occlusion, self.regions, self.beam, places), bounds).T
        value = torch.where(upper - lower > 1e-9, (aopc - lower) / (upper - lower), torch.nan)
        return torch.stack([value, aopc, lower, upper], 1)

    def _bounds(
        self, experiment: Perturbation, found: Ranked, example: int, target: Tensor, clean: Tensor
    ) -> tuple[float, float]:
        known: dict[tuple[bool, ...], float] = {}

        def cost(removed: Tensor) -> Tensor:
            sets = [tuple(row) for row in removed.tolist()]
            if new := [row for row in sets if row not in known]:
                logits = experiment.one_without(example, found.labels[example], torch.tensor(new))
                score = class_score(logits, target[example].expand(len(logits))).double()
                known.update(zip(new, (clean[example] - score).tolist(), strict=True))
            return torch.tensor([known[row] for row in sets], dtype=torch.float64)

        n = found.scores.shape[1]
        return -best_order(lambda removed: -cost(removed), n, self.beam), best_order(cost, n, self.beam)


def best_order(cost: Callable[[Tensor], Tensor], n: int, beam: int) -> float:
    """Returns the greatest mean cost of the n sets {1st}, {1st, 2nd} … of an order, over the orders that beam search visits.

    Orders that have removed the same set continue as one, with the better sum. The result is exact if the beam holds all sets
    of a size.

    Args:
        cost: (set, n) bool, true where removed → (set,).
        n: the number of features.
        beam: the number of sets of each size that are kept.
    """
    states: dict[frozenset[int], float] = {frozenset(): 0.0}
    for _ in range(n):
        longer: dict[frozenset[int], float] = {}
        for state, total in states.items():
            for feature in sorted({*range(n)} - state):
                key = state | {feature}
                longer[key] = max(total, longer.get(key, -float("inf")))
        removed = torch.zeros(len(longer), n, dtype=torch.bool)
        for row, state in enumerate(longer):
            removed[row, sorted(state)] = True
        sums = {state: total + more for (state, total), more in zip(longer.items(), cost(removed).tolist(), strict=True)}
        states = dict(sorted(sums.items(), key=lambda item: -item[1])[:beam])
    return max(states.values()) / n
