"""Metrics read off perturbation curves: areas, their difference, and mean drops at a few fractions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric, perturbation
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.metrics.protocol import Protocol
from attnchain_evals.perturbation.class_score import class_score
from attnchain_evals.perturbation.curve import Mode, Order, PerturbationCurve
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_type

STEPS: Final = Protocol(fractions=20, rounding="nearest")
ERASER: Final = Protocol(fractions=(0.01, 0.05, 0.1, 0.2, 0.5), ends=False, rounding="up")


class Taken(NamedTuple):
    """The arguments of a curve: a protocol, a trial, the attributions."""

    protocol: Protocol
    trial: Trial
    attributions: Tensor

    def curve(self, mode: Mode, order: Order) -> PerturbationCurve:
        return self.protocol.curve(self.trial, self.attributions, mode, order=order)

    def area(self, mode: Mode, order: Order) -> Tensor:
        return self.protocol.area(self.curve(mode, order))


def area(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, 1): the area under the curve."""
    return taken.area(mode, order)[:, None]


def area_and_scores(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, 1 + step): the area under the curve, then the curve where its fractions are known beforehand."""
    scores = [taken.protocol.sampled(taken.curve(mode, order))] if taken.protocol.steps else []
    return torch.cat([area(taken, mode, order), *scores], 1)


def gain(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, 3): AUC(LeRF) − AUC(MoRF), and both.

    Where an example has no equal scores, and each fraction of its curve has its complement, AUC(LeRF) is the area of the
    insertion curve. Other examples have the deletion curve, least relevant first.
    """
    morf = taken.area(mode, order)
    shortcut = taken.curve(mode, order).symmetric & ~taken.protocol.tied(taken.trial, taken.attributions)
    lerf = taken.area("insertion", "morf") if bool(shortcut.any()) else morf
    if not bool(shortcut.all()):
        lerf = torch.where(shortcut, lerf, taken.area("deletion", "lerf"))
    return torch.stack([lerf - morf, lerf, morf], 1)


def drops_from_clean(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, step): the score of the clean input − each score."""
    protocol, trial = taken.protocol, taken.trial
    experiment = perturbation(trial, protocol.occlusion, protocol.batch_size)
    clean = class_score(experiment.clean, experiment.target(protocol.classes(trial)), protocol.score)[:, None]
    return clean - taken.curve(mode, order).scores


def mean_drop(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, 1): the mean of the drops over the distinct steps of an example."""
    drops, steps = drops_from_clean(taken, mode, order), taken.curve(mode, order).distinct
    return (drops * steps).sum(1, keepdim=True) / steps.sum(1, keepdim=True)


def mean_drop_at_fractions(taken: Taken, mode: Mode, order: Order) -> Tensor:
    """(batch, 1): the mean of the drops over the fractions. Fractions of an equal number of features count each."""
    return drops_from_clean(taken, mode, order).mean(1, keepdim=True)


AREAS: Final = (area, area_and_scores, gain)


class Row(NamedTuple):
    """A row of `TABLE`: how a metric reads its figures off a curve.

    Attributes:
        version: raised when the numbers of the metric change.
        higher_is_better: as torchmetrics defines it.
        mode, order: of the curve.
        figures: curves, mode, order → (batch, column).
        columns: the names of the figures. Those of `area_and_scores` continue with the fractions of the curve.
        protocol: the settings that a protocol leaves open.
    """

    version: int
    higher_is_better: bool
    mode: Mode
    order: Order
    figures: Callable[[Taken, Mode, Order], Tensor]
    columns: tuple[str, ...] = ("value",)
    protocol: Protocol = STEPS


TABLE: Final = {
    "deletion": Row(3, False, "deletion", "morf", area_and_scores, ("auc",)),
    "reverse-deletion": Row(3, True, "deletion", "lerf", area),
    "insertion": Row(3, True, "insertion", "morf", area_and_scores, ("auc",)),
    "srg": Row(4, True, "deletion", "morf", gain, ("srg", "lerf", "morf")),
    "aopc": Row(4, True, "deletion", "morf", mean_drop),
    "comprehensiveness": Row(4, True, "deletion", "morf", mean_drop_at_fractions, protocol=ERASER),
    "sufficiency": Row(4, False, "insertion", "morf", mean_drop_at_fractions, protocol=ERASER),
}


class CurveMetric(AttributionMetric):
    """Figures of perturbation curves, as a row of `TABLE` defines them. Each subclass names its row.

    Args:
        protocol: how the curves are taken. Fractions and rounding that it leaves open are 20 steps, to the nearest;
            comprehensiveness and sufficiency take 1, 5, 10, 20 and 50 %, rounded up, and leave out the ends, so that only the
            named fractions count.
        name: the row and the protocol's name when None: "deletion/mean".
    """

    needs = frozenset({"logits"})
    row: ClassVar[str]

    def __init_subclass__(cls, row: str | None = None) -> None:
        super().__init_subclass__()
        cls.row = row or cls.row
        cls.version, cls.higher_is_better = TABLE[cls.row].version, TABLE[cls.row].higher_is_better

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        row = TABLE[self.row]
        if protocol is not None:
            check_type("protocol", protocol, Protocol, 'Pass Protocol(occlusion="mean").')
        filled = (protocol or row.protocol).filled(row.protocol)
        self.protocol = replace(filled, ends=row.protocol.ends and filled.ends)
        given = self.protocol.fractions
        if row.figures in AREAS and not self.protocol.ends and isinstance(given, tuple) and len({*given}) < 2:
            raise AttentionError(
                f"fractions is {given} with ends=False; {self.row} is an area, which needs two fractions.",
                "Pass more fractions, or ends=True.",
            )
        steps = self.protocol.steps if row.figures is area_and_scores else ()
        super().__init__(name or f"{self.row}/{self.protocol.name}", (*row.columns, *(f"{step:.6g}" for step in steps)))

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        row = TABLE[self.row]
        return row.figures(Taken(self.protocol, trial, attributions), row.mode, row.order)


class Deletion(CurveMetric, row="deletion"):
    """The area under the deletion curve, most relevant first: low where an attribution finds the evidence.

    The first column is the area. The curve follows where its fractions are known beforehand.

    Source: Petsiuk, Das & Saenko, *RISE*, BMVC 2018; for patches Samek et al., TNNLS 2017.
    """


class ReverseDeletion(CurveMetric, row="reverse-deletion"):
    """The area under the deletion curve, least relevant first (LeRF): high where low ranks are not evidence.

    Source: Samek et al., TNNLS 2017; the "negative perturbation" of Chefer, Gur & Wolf, CVPR 2021.
    """


class Insertion(CurveMetric, row="insertion"):
    """The area under the insertion curve, most relevant first: high where an attribution finds the evidence.

    The columns are those of `Deletion`.

    Source: Petsiuk, Das & Saenko, *RISE*, BMVC 2018.
    """


class SRG(CurveMetric, row="srg"):
    """Symmetric relevance gain: AUC(LeRF) − AUC(MoRF), both of deletion. The mean over random orders is zero.

    Equal scores keep raster order in both, so the gain of a constant map is zero. The columns are the gain, AUC(LeRF) and
    AUC(MoRF).

    Source: Bluecher, Vielhaben & Strodthoff, *Decoupling Pixel Flipping and Occlusion Strategy*, TMLR 2024 (arXiv 2401.06654).
    """


class AOPC(CurveMetric, row="aopc"):
    """Area over the perturbation curve: the mean over k = 0 … K of f(x) − f(x_k), features removed most relevant first.

    The mean is over numbers of features that differ: an example of two words has k = 0, 1, 2. Without the ends it is over the
    fractions of the protocol alone.

    Source: Samek et al., *Evaluating the Visualization of What a Deep Neural Network Has Learned*, TNNLS 2017.
    """


class Comprehensiveness(CurveMetric, row="comprehensiveness"):
    """The mean over fractions k, rounded up, of p(x) − p(x without the first k): high where the rationale was needed.

    Source: DeYoung et al., *ERASER*, ACL 2020; for images with patches in the place of words.
    """


class Sufficiency(CurveMetric, row="sufficiency"):
    """The mean over fractions k, rounded up, of p(x) − p(the first k alone): low where the rationale is enough.

    Source: DeYoung et al., *ERASER*, ACL 2020; for images with patches in the place of words.
    """


def curve_metrics(
    occlusions: Sequence[str | Occlusion] = ("mean", "blur"),
    fractions: int | Sequence[float] = 20,
    features: Features = "auto",
) -> list[ExampleMetric]:
    """Returns deletion, insertion and SRG under each occlusion. They share their curves."""
    return [
        kind(Protocol(occlusion, features, fractions=fractions))
        for occlusion in occlusions
        for kind in (Deletion, Insertion, SRG)
    ]
