"""Metrics of attributions: one class per metric, figures for each example, the interface of torchmetrics."""

from __future__ import annotations

from attnchain_evals.metrics.attribution_metric import AttributionMetric
from attnchain_evals.metrics.curves import (
    AOPC,
    SRG,
    Comprehensiveness,
    Deletion,
    Insertion,
    ReverseDeletion,
    Sufficiency,
    curve_metrics,
)
from attnchain_evals.metrics.evidence import EvidenceAP, EvidenceFirst
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.metrics.infidelity import Infidelity
from attnchain_evals.metrics.localisation import (
    EnergyInside,
    MeanAP,
    MeanIoU,
    PixelAccuracy,
    PointingGame,
    localisation_metrics,
)
from attnchain_evals.metrics.naopc import NAOPC
from attnchain_evals.metrics.presets import OF_TEXT, PRESETS, TEXT, preset, text_metrics
from attnchain_evals.metrics.protocol import Protocol
from attnchain_evals.metrics.saco import SaCo
from attnchain_evals.metrics.sensitivity_n import SensitivityN
from attnchain_evals.metrics.sentences import SentenceCorrelation, SentenceHit

__all__ = [
    "AOPC",
    "NAOPC",
    "OF_TEXT",
    "PRESETS",
    "SRG",
    "TEXT",
    "AttributionMetric",
    "Comprehensiveness",
    "Deletion",
    "EnergyInside",
    "EvidenceAP",
    "EvidenceFirst",
    "ExampleMetric",
    "Infidelity",
    "Insertion",
    "MeanAP",
    "MeanIoU",
    "PixelAccuracy",
    "PointingGame",
    "Protocol",
    "ReverseDeletion",
    "SaCo",
    "SensitivityN",
    "SentenceCorrelation",
    "SentenceHit",
    "Sufficiency",
    "Trial",
    "curve_metrics",
    "localisation_metrics",
    "preset",
    "text_metrics",
]
