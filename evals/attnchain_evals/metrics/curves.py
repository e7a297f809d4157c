"""Metrics read off perturbation curves: areas, their difference, and mean drops at a few fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from attnchain_evals.metrics.attribution_metric import AttributionMetric, perturbation
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.metrics.protocol import Protocol
from attnchain_evals.perturbation.class_score import class_score
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_evals.perturbation.perturbation_curve import Mode, Order

ERASER = Protocol(fractions=(0.01, 0.05, 0.1, 0.2, 0.5), ends=False, rounding="up")


@final
class Deletion(AttributionMetric):
    """The area under the deletion curve, most relevant first: low where an attribution finds the evidence.

    The first column is the area; where the fractions are known beforehand, the curve follows.

    Args:
        protocol: how the curve is taken.
        name: "deletion/" and the protocol's name when None.

    Source: Petsiuk, Das & Saenko, *RISE*, BMVC 2018; for patches Samek et al., TNNLS 2017.
    """

    version = 1
    higher_is_better = False

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        self.protocol = protocol or Protocol()
        super().__init__(name or f"deletion/{self.protocol.name}", columns_of(self.protocol))

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        return area_and_curve(self.protocol, trial, attributions, "deletion")


@final
class ReverseDeletion(AttributionMetric):
    """The area under the deletion curve, least relevant first (LeRF): high where what is ranked low is no evidence.

    Args:
        protocol: how the curve is taken.
        name: "reverse-deletion/" and the protocol's name when None.

    Source: Samek et al., TNNLS 2017; the "negative perturbation" of Chefer, Gur & Wolf, CVPR 2021.
    """

    version = 1
    higher_is_better = True

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        self.protocol = protocol or Protocol()
        super().__init__(name or f"reverse-deletion/{self.protocol.name}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        return self.protocol.area(self.protocol.curve(trial, attributions, "deletion", "lerf"))[:, None]


@final
class Insertion(AttributionMetric):
    """The area under the insertion curve, most relevant first: high where an attribution finds the evidence.

    Columns as of `Deletion`.

    Args:
        protocol: how the curve is taken.
        name: "insertion/" and the protocol's name when None.

    Source: Petsiuk, Das & Saenko, *RISE*, BMVC 2018.
    """

    version = 1
    higher_is_better = True

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        self.protocol = protocol or Protocol()
        super().__init__(name or f"insertion/{self.protocol.name}", columns_of(self.protocol))

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        return area_and_curve(self.protocol, trial, attributions, "insertion")


@final
class SRG(AttributionMetric):
    """Symmetric relevance gain: AUC(LeRF) − AUC(MoRF), both of deletion. Zero for a random order, on average.

    The columns are the gain, AUC(LeRF) and AUC(MoRF). Where fractions are symmetric (with every f there is 1 − f), AUC(LeRF)
    is the area under the insertion curve, and taken from there.

    Args:
        protocol: how the curves are taken.
        name: "srg/" and the protocol's name when None.

    Source: Bluecher, Vielhaben & Strodthoff, *Decoupling Pixel Flipping and Occlusion Strategy*, TMLR 2024 (arXiv 2401.06654).
    """

    version = 1
    higher_is_better = True

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        self.protocol = protocol or Protocol()
        super().__init__(name or f"srg/{self.protocol.name}", ("srg", "lerf", "morf"))

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        reverse: tuple[Mode, Order] = ("insertion", "morf") if self.protocol.symmetric else ("deletion", "lerf")
        lerf = self.protocol.area(self.protocol.curve(trial, attributions, *reverse))
        morf = self.protocol.area(self.protocol.curve(trial, attributions, "deletion", "morf"))
        return torch.stack([lerf - morf, lerf, morf], 1)


@final
class AOPC(AttributionMetric):
    """Area over the perturbation curve: the mean over k = 0 … K of f(x) − f(x_k), features removed most relevant first.

    Args:
        protocol: how the curve is taken; its area is not read.
        name: "aopc/" and the protocol's name when None.

    Source: Samek et al., *Evaluating the Visualization of What a Deep Neural Network Has Learned*, TNNLS 2017.
    """

    version = 1
    higher_is_better = True

    def __init__(self, protocol: Protocol | None = None, name: str | None = None) -> None:
        self.protocol = protocol or Protocol()
        super().__init__(name or f"aopc/{self.protocol.name}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        scores = self.protocol.curve(trial, attributions, "deletion", "morf").scores
        return (scores[:, :1] - scores).mean(1, keepdim=True)


@final
class Comprehensiveness(AttributionMetric):
    """The mean over fractions k, rounded up, of p(x) − p(x without the first k): high where the rationale was needed.

    Args:
        protocol: how the curve is taken; ends are left out, so that only the fractions named count.
        name: "comprehensiveness/" and the protocol's name when None.

    Source: DeYoung et al., *ERASER*, ACL 2020; of images with patches in the place of words.
    """

    version = 2
    higher_is_better = True

    def __init__(self, protocol: Protocol = ERASER, name: str | None = None) -> None:
        self.protocol = replace(protocol, ends=False)
        super().__init__(name or f"comprehensiveness/{self.protocol.name}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        scores = self.protocol.curve(trial, attributions, "deletion", "morf").scores
        return (_clean(trial, self.protocol) - scores).mean(1, keepdim=True)


@final
class Sufficiency(AttributionMetric):
    """The mean over fractions k, rounded up, of p(x) − p(the first k alone): low where the rationale is enough.

    Args:
        protocol: how the curve is taken; ends are left out, so that only the fractions named count.
        name: "sufficiency/" and the protocol's name when None.

    Source: DeYoung et al., *ERASER*, ACL 2020; of images with patches in the place of words.
    """

    version = 2
    higher_is_better = False

    def __init__(self, protocol: Protocol = ERASER, name: str | None = None) -> None:
        self.protocol = replace(protocol, ends=False)
        super().__init__(name or f"sufficiency/{self.protocol.name}")

    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        scores = self.protocol.curve(trial, attributions, "insertion", "morf").scores
        return (_clean(trial, self.protocol) - scores).mean(1, keepdim=True)


def curve_metrics(
    occlusions: Sequence[str | Occlusion] = ("mean", "blur"),
    fractions: int | Sequence[float] = 20,
    features: Features = "patch",
) -> list[ExampleMetric]:
    """Deletion, insertion and SRG under each occlusion, of patches or other features; they share their curves."""
    steps = fractions if isinstance(fractions, int) else tuple(fractions)
    return [kind(Protocol(occlusion, features, steps)) for occlusion in occlusions for kind in (Deletion, Insertion, SRG)]


def columns_of(protocol: Protocol) -> tuple[str, ...]:
    return ("auc", *(f"{step:.6g}" for step in protocol.steps))


def area_and_curve(protocol: Protocol, trial: Trial, attributions: Tensor, mode: Mode) -> Tensor:
    curve = protocol.curve(trial, attributions, mode, "morf")
    area = protocol.area(curve)[:, None]
    return torch.cat([area, protocol.sampled(curve)], 1) if protocol.steps else area


def _clean(trial: Trial, protocol: Protocol) -> Tensor:
    experiment = perturbation(trial, protocol.occlusion, protocol.batch_size)
    return class_score(experiment.clean, experiment.target(protocol.classes(trial)), protocol.score)[:, None]
